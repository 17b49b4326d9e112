"""Choice of versions to preload, and the outcome of predictions."""

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_registry.plan.facts import NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.prediction import (
    LIKELY,
    REST_SECONDS,
    Outcome,
    choose,
    judge,
    likely,
)

NODE = NodeView("local", {"cpu": 1000}, 4)


def version(key: str, needs: int = 100, **fields: object) -> VersionView:
    return VersionView(key, (Placement("local", "auto", {"cpu": needs}),), **fields)


def replica(key: str, needs: int = 100, **fields: object) -> ReplicaView:
    usual: dict[str, object] = {"state": "ready", "state_age_seconds": 3600.0, "is_alive": True}
    return ReplicaView(1, key, "local", needs={"cpu": needs}, **(usual | fields))


def chosen(
    *versions: VersionView,
    replicas: Collection[ReplicaView] = (),
    promised: Collection[str] = (),
    others: Collection[VersionView] = (),
    node: NodeView = NODE,
) -> list[str]:
    """Keys of what is chosen of ``versions``, all of them likely in this order."""
    seen = {one.key: one for one in (*versions, *others)}
    probabilities = {one.key: 0.9 for one in versions}
    found = choose(probabilities, promised, [node], seen, list(replicas), Rules())
    return [one.version for one in found]


def test_likely_versions_are_in_order_of_probability() -> None:
    chances = {"a": LIKELY, "b": 0.9, "c": LIKELY - 0.01, "d": 0.8}
    assert list(likely(chances, recent={"d"})) == ["b", "a"]


def test_choose_takes_the_most_likely_that_fit() -> None:
    assert chosen(version("a", 600), version("b", 600), version("c", 400)) == ["a", "c"]


def test_choose_names_place_and_bytes() -> None:
    (one,) = choose({"a": 0.7}, (), [NODE], {"a": version("a")}, [], Rules())
    assert (one.version, one.probability, one.needed_bytes) == ("a", 0.7, 100)
    assert one.placement.node == "local"


def test_choose_evicts_nothing() -> None:
    held = replica("b", 500)
    assert chosen(version("a", 600), others=[version("b", 500)], replicas=[held]) == []
    assert chosen(version("b"), replicas=[held]) == []


def test_choose_keeps_the_room_of_promised_versions() -> None:
    before = version("b", 500)
    assert chosen(version("a", 600), others=[before], promised=["b"]) == []
    there = replica("b", 500)
    small = chosen(version("a", 500), others=[before], promised=["b"], replicas=[there])
    assert small == ["a"]


@pytest.mark.parametrize(("queued", "expected"), [(2, ["a"]), (3, [])])
def test_choose_only_while_the_queue_is_short(queued: int, expected: list[str]) -> None:
    assert chosen(version("a"), others=[version("b", queued=queued)]) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"state_age_seconds": REST_SECONDS - 1},
        {"state_age_seconds": 9999.0, "crashes": 1},
        {"state_age_seconds": 9999.0, "wanted": True},
    ],
)
def test_choose_no_version_that_left_or_failed_lately(
    fields: dict[str, object],
) -> None:
    usual: dict[str, object] = {"state": "stopped", "is_alive": False, "wanted": False}
    absent = replica("a", **usual)
    assert chosen(version("a"), replicas=[replace(absent, state_age_seconds=REST_SECONDS)]) == ["a"]
    assert chosen(version("a"), replicas=[replica("a", **(usual | fields))]) == []


def test_choose_no_version_that_cannot_be_loaded_or_has_no_node() -> None:
    assert chosen(version("a", unusable="no file")) == []
    assert chosen(version("a"), node=replace(NODE, is_alive=False)) == []


@given(
    st.lists(st.integers(1, 700), max_size=8),
    st.lists(st.integers(1, 400), max_size=2),
    st.lists(st.integers(1, 400), max_size=2),
)
def test_choose_never_goes_beyond_the_budget(
    likely_bytes: list[int], held_bytes: list[int], promised_bytes: list[int]
) -> None:
    asked = {f"a{number}": version(f"a{number}", n) for number, n in enumerate(likely_bytes)}
    promised = {f"p{number}": version(f"p{number}", n) for number, n in enumerate(promised_bytes)}
    held = [replica(f"h{number}", n) for number, n in enumerate(held_bytes)]
    found = choose(
        dict.fromkeys(asked, 0.9), list(promised), [NODE], asked | promised, held, Rules()
    )
    together = sum(one.needed_bytes for one in found) + sum(held_bytes)
    kept = sum(promised_bytes) if sum(held_bytes + promised_bytes) <= 1000 else 0
    assert not found or together + kept <= 1000
    assert len(found) + len(held) <= NODE.max_replicas


@pytest.mark.parametrize(
    ("asked_at", "now", "expected"),
    [
        (130.0, 140.0, (Outcome.HIT, 30.0)),
        (None, 140.0, (Outcome.PENDING, 0.0)),
        (None, 259.0, (Outcome.PENDING, 0.0)),
        (None, 260.0, (Outcome.WASTE, 100.0)),
        (199.0, 9999.0, (Outcome.HIT, 99.0)),
    ],
)
def test_judge_waits_for_requests_that_become_known_late(
    asked_at: float | None, now: float, expected: tuple[Outcome, float]
) -> None:
    assert judge(100.0, 200.0, asked_at, now, grace_seconds=60.0) == expected
