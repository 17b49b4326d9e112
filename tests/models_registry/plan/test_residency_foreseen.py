"""Versions that are only foreseen: they fill free room, and give way to whoever really asks."""

from models_registry.plan.facts import NodeView, Rules
from tests.models_registry.fleet_simulator import MIB, Fleet, Row, SimModel

RULES = Rules(minimum_dwell_seconds=5, maximum_wait_seconds=15)
A, B, C = (SimModel(key) for key in "abc")


def fleet(*models: SimModel, mib: int = 200) -> Fleet:
    return Fleet(models, [NodeView("local", {"cpu": mib * MIB}, 8)], RULES)


def ready(world: Fleet, key: str) -> None:
    world.run_until(lambda: key in world.resident())


def test_foreseen_version_is_in_memory_when_it_is_requested() -> None:
    world = fleet(A)
    world.foresee("a")
    ready(world, "a")
    request = world.ask("a")
    assert world.run_until(lambda: request.is_over) < 2.0
    assert world.row("a").on_demand


def test_foreseen_version_evicts_nothing() -> None:
    world = fleet(A, B, C)
    for key in "ab":
        world.load(key)
        ready(world, key)
    world.run(600)
    world.foresee("c")
    world.run(60)
    assert world.resident() == {"a", "b"}
    world.unload("a")
    ready(world, "c")
    assert world.swaps == []


def test_foreseen_version_that_dies_evicts_nothing_and_is_not_tried_again() -> None:
    world = fleet(A, B, C)
    world.foresee("c")
    ready(world, "c")
    world.dies = lambda row: row.model.key == "c"
    world.tick()
    world.load("a")
    world.load("b")
    world.run(60)
    assert world.resident() == {"a", "b"}
    assert world.loads_of("c") == 1
    assert world.swaps == []


def test_foreseen_version_that_cannot_be_loaded_is_tried_once() -> None:
    world = fleet(A)

    def fails(_: Row) -> str:
        return "no memory"

    world.fails_to_load = fails
    world.foresee("a")
    world.run(120)
    assert world.loads_of("a") == 1


def test_foreseen_version_is_evicted_first() -> None:
    world = fleet(A, B, C)
    world.load("a")
    ready(world, "a")
    world.run(600)  # longer idle than the other
    world.foresee("b")
    ready(world, "b")
    world.run(10)
    request = world.ask("c")
    world.run_until(lambda: request.is_over)
    assert [swap.victim for swap in world.swaps] == ["b"]


def test_foreseen_version_waits_while_the_queue_is_long() -> None:
    world = fleet(A, B)
    world.load("a")
    ready(world, "a")
    for _ in range(4 + 3):  # all sequences, and a queue
        world.ask("a", work_seconds=60)
    world.tick()
    world.foresee("b")
    world.run(50)
    assert world.resident() == {"a"}
    ready(world, "b")
    assert all(one.first_claimed_at is not None for one in world.requests)


def test_foreseen_versions_leave_a_place_among_the_loads() -> None:
    world = fleet(A, B, C, mib=300)
    world.foresee("a")
    world.foresee("b")
    world.tick()
    assert [start.version for _, start in world.starts] == ["a"]
    world.ask("c")
    world.tick()
    assert [start.version for _, start in world.starts] == ["a", "c"]


def test_foreseen_version_outstays_its_keep_alive_until_it_was_used() -> None:
    brief = SimModel("a", keep_alive_seconds=5)
    world = fleet(brief)
    world.foresee("a")
    ready(world, "a")
    world.run(60)
    assert world.resident() == {"a"}
    request = world.ask("a")
    world.run_until(lambda: request.is_over)
    world.run(10)
    assert world.resident() == set()
    assert world.loads_of("a") == 1


def test_foreseen_version_that_was_not_used_in_time_leaves_by_its_keep_alive() -> None:
    world = fleet(SimModel("a", keep_alive_seconds=5))
    world.foresee("a")
    ready(world, "a")
    world.run(60)
    world.foreseen_at.clear()
    world.run(5)
    assert world.resident() == set()
