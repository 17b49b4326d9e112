"""Whether the members of a preset fit together."""

from models_registry.plan.fitting import fit

GIB = 1 << 30


def test_members_that_fit_are_all_resident() -> None:
    found = fit(["a", "b"], {"a": GIB, "b": GIB}, 2 * GIB)
    assert (found.resident, found.swapped, found.never) == (("a", "b"), (), ())
    assert found.missing_bytes == 0
    assert str(found) == "Fits: it needs 2.0 GiB of 2.0 GiB."


def test_members_that_do_not_fit_say_by_how_much_and_which_do() -> None:
    needs = {"a": GIB, "b": 3 * GIB // 2, "c": GIB // 2, "d": 4 * GIB}
    found = fit(["a", "b", "c", "d"], needs, 2 * GIB)
    assert (found.resident, found.swapped, found.never) == (("a", "c"), ("b",), ("d",))
    assert found.missing_bytes == 5 * GIB
    assert str(found) == (
        "Does not fit at once: it needs 7.0 GiB, 5.0 GiB more than the 2.0 GiB there are. "
        "Together fit a, c. Loaded in turn: b. Too large even alone: d."
    )


def test_a_member_that_speaks_twice_is_in_memory_once() -> None:
    assert fit(["a", "a"], {"a": GIB}, GIB).missing_bytes == 0
