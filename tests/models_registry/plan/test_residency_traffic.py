"""Random traffic, crashes and loads: no request is lost, and none waits for ever."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry.plan.facts import NodeView, Rules
from models_registry.plan.plan import plan
from tests.models_registry.fleet_simulator import MIB, Fleet, Row, SimModel

RULES = Rules(minimum_dwell_seconds=5, maximum_wait_seconds=15, max_loads=2)
WORK_SECONDS = 4.0
LOAD_SECONDS = 3.0


def bound_seconds(world: Fleet) -> float:
    """The longest time a request may wait: each other version may go first once.

    One turn is at most a maximum wait or dwell until a replica is evicted, the work that it then
    finishes, its exit, and the load.
    """
    turn = (
        max(RULES.maximum_wait_seconds, RULES.minimum_dwell_seconds) + RULES.minimum_dwell_seconds
    )
    turn += WORK_SECONDS + LOAD_SECONDS + 3.0
    return turn * (len(world.models) + 1)


def drive(
    world: Fleet,
    seed: int,
    seconds: float,
    per_second: float,
    death_rate: float = 0.0,
    restart_rate: float = 0.0,
) -> None:
    """Let random requests come for a while, then let all be answered."""
    chance = random.Random(seed)
    keys = sorted(world.models)
    weights = [chance.uniform(0.2, 3.0) for _ in keys]
    deaths_end = world.now + seconds

    def dies(row: Row) -> bool:
        # A version is spared after two deaths: a third in a row would be a crash loop.
        rare = row.crashes < 2 and world.now < deaths_end
        return rare and chance.random() < death_rate

    world.dies = dies
    until = world.now + seconds
    back_at: dict[str, float] = {}
    while world.now < until:
        for node in world.nodes:
            if node.is_alive and restart_rate and chance.random() < restart_rate:
                world.lose(node.name)
                back_at[node.name] = world.now + chance.uniform(1, RULES.node_patience_seconds - 2)
        for name in [name for name, at in back_at.items() if world.now >= at]:
            world.regain(name)
            del back_at[name]
        for _ in range(int(per_second) + (chance.random() < per_second % 1)):
            world.ask(
                chance.choices(keys, weights)[0],
                priority=chance.randint(1, 3),
                work_seconds=chance.uniform(0.2, WORK_SECONDS),
            )
        world.tick()
        world.tick()
    for name in back_at:
        world.regain(name)
    world.run_until(lambda: all(one.is_over for one in world.requests), 3 * bound_seconds(world))


def check(world: Fleet) -> None:
    """Check that all requests were served in time."""
    assert [one.refused for one in world.requests if one.refused] == []
    assert max(world.waits, default=0) <= bound_seconds(world)


@pytest.mark.parametrize("seed", range(12))
def test_three_models_under_a_budget_for_two(seed: int) -> None:
    models = [SimModel(key, load_seconds=LOAD_SECONDS) for key in "abc"]
    world = Fleet(models, [NodeView("local", {"cpu": 200 * MIB}, 4)], RULES)
    drive(world, seed, 240, per_second=1.5)
    check(world)
    # Each swap is worth at least a dwell of service.
    assert len(world.swaps) <= 2 * 240 / RULES.minimum_dwell_seconds


@pytest.mark.parametrize("seed", range(12))
def test_hosts_killed_at_any_moment_lose_nothing(seed: int) -> None:
    models = [SimModel(key, load_seconds=LOAD_SECONDS) for key in "abc"]
    world = Fleet(models, [NodeView("local", {"cpu": 200 * MIB}, 4)], RULES)
    drive(world, seed, 180, per_second=1.0, death_rate=0.01)
    assert [one.refused for one in world.requests if one.refused] == []


@pytest.mark.parametrize("seed", range(6))
def test_clusters_that_restart_at_any_moment_lose_nothing(seed: int) -> None:
    models = [SimModel(key, load_seconds=LOAD_SECONDS) for key in "abc"]
    # Only one of the nodes has room for the large one.
    models.append(SimModel("large", mib=150, load_seconds=LOAD_SECONDS))
    nodes = [NodeView("one", {"cpu": 200 * MIB}, 4), NodeView("two", {"cpu": 120 * MIB}, 2)]
    world = Fleet(models, nodes, RULES)
    drive(world, seed, 300, per_second=0.5, restart_rate=0.01)
    assert [one.refused for one in world.requests if one.refused] == []


def test_many_models_of_all_sizes_on_two_nodes() -> None:
    chance = random.Random(7)
    models = [
        SimModel(f"m{number}", mib=chance.randint(40, 200), load_seconds=LOAD_SECONDS)
        for number in range(12)
    ]
    nodes = [
        NodeView("one", {"cpu": 300 * MIB}, 4),
        NodeView("two", {"cpu": 200 * MIB}, 3),
    ]
    world = Fleet(models, nodes, RULES)
    drive(world, 3, 400, per_second=2.0)
    check(world)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Any fleet in which every model can be served."""
    budget = draw(st.integers(150, 600))
    pinned = draw(st.booleans())
    models = [
        SimModel(
            f"m{number}",
            mib=(mib := draw(st.integers(10, 100))),
            held_mib=draw(st.integers(mib - 5, min(100, mib + 10))),
            load_seconds=draw(st.floats(0.5, LOAD_SECONDS)),
            max_sequences=draw(st.integers(1, 8)),
            keep_alive_seconds=draw(st.sampled_from([float("inf"), 0.0, 8.0])),
            preload_workers=draw(st.integers(0, 2)),
        )
        for number in range(draw(st.integers(1, 5)))
    ]
    models.append(SimModel("embed", mib=draw(st.integers(10, 25)), is_embedding=True))
    if pinned:
        models.append(SimModel("pin", mib=25, pinned=True))
    nodes = [NodeView("one", {"cpu": budget * MIB}, draw(st.integers(3, 6)))]
    if draw(st.booleans()):
        nodes.append(NodeView("two", {"cpu": 120 * MIB}, 2))
    rules = Rules(
        minimum_dwell_seconds=5,
        maximum_wait_seconds=15,
        max_loads=draw(st.integers(1, 3)),
    )
    return Fleet(models, nodes, rules)


@given(
    world=fleets(),
    seed=st.integers(0, 10_000),
    per_second=st.floats(0.1, 2.0),
    death_rate=st.sampled_from([0.0, 0.005]),
)
@settings(max_examples=40, derandomize=True)
def test_any_fleet_serves_every_request(
    world: Fleet, seed: int, per_second: float, death_rate: float
) -> None:
    drive(world, seed, 60, per_second, death_rate)
    if not death_rate:
        check(world)
    assert [one.refused for one in world.requests if one.refused] == []


@given(world=fleets(), seed=st.integers(0, 10_000))
@settings(max_examples=20, derandomize=True)
def test_a_fleet_left_alone_comes_to_rest(world: Fleet, seed: int) -> None:
    drive(world, seed, 20, 0.5)
    world.run(120)
    began = len(world.starts)
    world.run(120)
    assert len(world.starts) == began
    assert world.last.retirements == []


def test_the_plan_of_a_large_fleet_takes_little_time() -> None:
    models = [SimModel(f"m{number}", mib=10) for number in range(200)]
    world = Fleet(models, [NodeView("local", {"cpu": 1000 * MIB}, 100)], Rules(max_loads=100))
    for model in models:
        world.ask(model.key, work_seconds=100)
    world.run(10)
    views = [world._replica_view(row) for row in world.rows]
    versions = [world._version_view(model) for model in models]
    began = time.process_time()
    plan(world.nodes, versions, views, world.rules)
    assert time.process_time() - began < 0.25
