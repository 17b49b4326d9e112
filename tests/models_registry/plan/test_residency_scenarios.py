"""Loads, swaps and deaths of a pretended fleet, one story each."""

import math

import pytest

from models_registry.plan.facts import NodeView, Rules
from models_registry.plan.lifecycle import CRASH_LOOP_REST_SECONDS
from tests.models_registry.fleet_simulator import MIB, TICK_SECONDS, Fleet, SimModel

RULES = Rules(minimum_dwell_seconds=5, maximum_wait_seconds=15)
# From the plan to a host that serves: announcement, load, and the ticks in between.
LOAD_SECONDS = 4.0


def node(mib: int = 200, name: str = "local", **fields: object) -> NodeView:
    """A machine with so much for models."""
    defaults: dict[str, object] = {"max_replicas": 8}
    return NodeView(name, {"cpu": mib * MIB}, **(defaults | fields))


def fleet(*models: SimModel, mib: int = 200, rules: Rules = RULES) -> Fleet:
    """One node."""
    return Fleet(models, [node(mib)], rules)


A, B, C = (SimModel(key) for key in "abc")
EMBEDDER = SimModel("e", mib=50, is_embedding=True)


def test_a_request_for_an_absent_model_waits_until_it_is_loaded() -> None:
    world = fleet(A)
    request = world.ask("a")
    assert world.run_until(lambda: request.is_over) < LOAD_SECONDS + 2
    assert not request.refused


def test_many_requests_join_one_load() -> None:
    world = fleet(A)
    requests = [world.ask("a") for _ in range(8)]
    world.run(1)
    requests += [world.ask("a") for _ in range(8)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert world.loads_of("a") == 1


def test_a_caller_who_leaves_before_the_load_leaves_nothing_behind() -> None:
    world = fleet(A, B, mib=100)
    world.ask("a", work_seconds=30)
    world.run_until(lambda: "a" in world.resident())
    waiting = world.ask("b")
    world.run(3)
    world.cancel(waiting)
    world.run(60)
    assert world.loads_of("b") == 0
    assert world.resident() == {"a"}


def test_a_caller_who_leaves_during_the_load_lets_it_end_for_the_next() -> None:
    world = fleet(A)
    first = world.ask("a")
    world.run(1)
    world.cancel(first)
    world.run(10)
    second = world.ask("a")
    world.run_until(lambda: second.is_over)
    assert world.loads_of("a") == 1


def test_a_failed_load_fails_all_waiting_requests_with_its_reason() -> None:
    world = fleet(A)
    world.fails_to_load = lambda _: "a could not be loaded: bad magic"
    requests = [world.ask("a") for _ in range(5)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert {one.refused for one in requests} == {"a could not be loaded: bad magic"}
    assert world.loads_of("a") == 1


def test_after_a_failed_load_others_go_on_and_a_later_request_tries_again() -> None:
    world = fleet(A, B)
    world.fails_to_load = lambda row: "bad" if row.model.key == "a" else ""
    refused, served = world.ask("a"), world.ask("b")
    world.run_until(lambda: refused.is_over and served.is_over)
    assert (refused.refused, served.refused) == ("bad", "")
    world.run(5)
    assert not world.row("a").wanted
    world.fails_to_load = lambda _: ""
    later = world.ask("a")
    world.run_until(lambda: later.is_over)
    assert not later.refused


def test_a_host_killed_while_it_loads_is_loaded_again_and_no_request_fails() -> None:
    world = fleet(A)
    deaths = iter([True])
    world.dies = lambda row: row.state == "loading" and next(deaths, False)
    requests = [world.ask("a") for _ in range(3)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert not any(one.refused for one in requests)
    assert world.loads_of("a") == 2


def test_a_host_killed_at_work_gives_its_requests_back() -> None:
    world = fleet(A)
    request = world.ask("a", work_seconds=10)
    world.run_until(lambda: request.first_claimed_at is not None)
    deaths = iter([True])
    world.dies = lambda _: next(deaths, False)
    world.run_until(lambda: request.is_over)
    assert not request.refused
    assert world.loads_of("a") == 2


def test_three_deaths_are_a_crash_loop_that_is_reported_and_rests() -> None:
    world = fleet(A, B)
    world.dies = lambda row: row.model.key == "a" and row.state == "loading"
    doomed = world.ask("a")
    world.run_until(lambda: doomed.is_over)
    assert doomed.refused == "a died 3 times in a row."
    assert world.loads_of("a") == 3
    other = world.ask("b")
    again = world.ask("a")
    world.run_until(lambda: other.is_over and again.is_over)
    assert not other.refused
    assert "3 times" in again.refused
    world.run(CRASH_LOOP_REST_SECONDS + 5)
    assert world.loads_of("a") == 3
    world.dies = lambda _: False
    healed = world.ask("a")
    world.run_until(lambda: healed.is_over)
    assert not healed.refused


def test_the_longest_idle_replica_is_evicted_first() -> None:
    world = fleet(A, B, C)
    for key in "aba":
        world.ask(key)
        world.run(10)
    request = world.ask("c")
    world.run_until(lambda: request.is_over)
    assert world.resident() == {"a", "c"}
    assert [swap.victim for swap in world.swaps] == ["b"]


def test_no_replica_is_evicted_while_there_is_room() -> None:
    world = fleet(A, B, C, mib=300)
    for key in "abc":
        world.ask(key)
        world.run(20)
    assert world.resident() == {"a", "b", "c"}
    assert world.swaps == []


def test_a_busy_replica_stays_until_a_request_has_waited_too_long() -> None:
    world = fleet(A, B, mib=100)
    world.ask("a", work_seconds=1000)
    world.run_until(lambda: "a" in world.resident())
    world.run(10)
    waiting = world.ask("b")
    world.run(RULES.maximum_wait_seconds - 1)
    assert world.swaps == []
    world.run(2)
    assert [swap.victim for swap in world.swaps] == ["a"]
    assert waiting.first_claimed_at is None


def test_a_drained_replica_finishes_its_requests_and_waiting_ones_are_served_later() -> None:
    world = fleet(A, B, mib=100)
    running = world.ask("a", work_seconds=25)
    world.run_until(lambda: running.first_claimed_at is not None)
    waiting = world.ask("b")
    world.run_until(lambda: bool(world.swaps))
    late = world.ask("a")
    world.run_until(lambda: waiting.is_over and late.is_over and running.is_over)
    assert {one.refused for one in (running, waiting, late)} == {""}
    assert (running.finished_at or math.inf) <= (waiting.first_claimed_at or 0)


def test_a_pinned_replica_stays_however_long_others_wait() -> None:
    world = fleet(SimModel("a", pinned=True), B, mib=100)
    world.run_until(lambda: "a" in world.resident())
    request = world.ask("b")
    world.run(RULES.maximum_wait_seconds * 3)
    assert world.swaps == []
    assert "models that stay (a)" in request.refused
    assert "It needs 100 MiB" in request.refused


def test_a_pinned_version_is_loaded_without_requests_and_evicts_idle_replicas() -> None:
    world = fleet(A, SimModel("p", pinned=True), mib=100)
    world.models["p"] = SimModel("p")
    world.ask("a")
    world.run(20)
    world.models["p"] = SimModel("p", pinned=True)
    world.run(10)
    assert world.resident() == {"p"}


def test_embedding_models_stay_while_generation_models_come_and_go() -> None:
    world = fleet(A, B, EMBEDDER, mib=150)
    for key in "eaba":
        request = world.ask(key)
        world.run_until(lambda one=request: one.is_over)  # type: ignore[misc]
        world.run(RULES.minimum_dwell_seconds)
    assert "e" in world.resident()
    assert {swap.victim for swap in world.swaps} == {"a", "b"}


def test_an_embedding_model_is_evicted_for_another_one() -> None:
    world = fleet(EMBEDDER, SimModel("f", mib=50, is_embedding=True), mib=50)
    world.ask("e")
    world.run(10)
    request = world.ask("f")
    world.run_until(lambda: request.is_over)
    assert world.resident() == {"f"}


def test_an_embedding_model_goes_when_an_administrator_says_so() -> None:
    world = fleet(EMBEDDER, A)
    world.ask("e")
    world.run(10)
    world.unload("e")
    world.run_until(lambda: not world.resident())


def test_a_version_that_never_fits_is_refused_at_once_with_numbers() -> None:
    world = fleet(SimModel("a", mib=1200))
    request = world.ask("a")
    world.tick()
    assert request.refused == (
        "It needs 1.2 GiB of cpu memory, but local may use 200 MiB for models."
    )


def test_without_a_node_requests_are_refused_at_once() -> None:
    world = Fleet([A], [], RULES)
    request = world.ask("a")
    world.tick()
    assert "No node runs a models cluster" in request.refused


def test_a_version_without_its_file_is_refused_with_what_to_do() -> None:
    world = fleet(A)
    world.unusable["a"] = "Its file is absent. Fetch it first."
    request = world.ask("a")
    world.tick()
    assert request.refused == "Its file is absent. Fetch it first."


def test_an_overlapped_swap_leaves_the_old_one_serving() -> None:
    world = fleet(A, B)
    old = world.ask("a", work_seconds=30)
    world.run_until(lambda: old.first_claimed_at is not None)
    new = world.ask("b")
    world.run_until(lambda: new.is_over)
    assert old.finished_at is None
    assert world.resident() == {"a", "b"}
    assert world.swaps == []


def test_a_sequential_swap_waits_for_the_old_one_to_be_gone() -> None:
    world = fleet(A, B, mib=150)
    world.ask("a")
    world.run(10)
    world.ask("b")
    world.run_until(lambda: world.loads_of("b") == 1)
    assert world.row("a").host is None


def test_a_replica_is_not_evicted_before_it_has_dwelt() -> None:
    world = fleet(A, B, mib=100)
    ready_at: dict[str, float] = {}
    for _ in range(40):
        for key in "ab":
            world.ask(key, work_seconds=0.5)
        for _ in range(4):
            world.tick()
            for key in world.resident():
                ready_at.setdefault(key, world.now)
    # Two models that are wanted all the time change places at most once per dwell and load.
    seconds = 40 * 4 * TICK_SECONDS
    assert len(world.swaps) <= seconds / RULES.minimum_dwell_seconds


@pytest.mark.parametrize(("keep_alive", "stays"), [(20.0, 18.0), (0.0, 0.0)])
def test_keep_alive_ends_with_idleness(keep_alive: float, stays: float) -> None:
    world = fleet(SimModel("a", keep_alive_seconds=keep_alive))
    request = world.ask("a")
    world.run_until(lambda: request.is_over)
    world.run(stays)
    assert world.resident() == ({"a"} if stays else set()) or world.row("a").host is not None
    world.run(5)
    assert world.resident() == set()


def test_keep_alive_begins_anew_with_each_request() -> None:
    world = fleet(SimModel("a", keep_alive_seconds=10))
    for _ in range(6):
        world.ask("a")
        world.run(8)
        assert world.loads_of("a") == 1


def test_without_keep_alive_an_idle_model_stays() -> None:
    world = fleet(A)
    world.ask("a")
    world.run(3600)
    assert world.resident() == {"a"}


def test_the_most_urgent_version_is_loaded_first() -> None:
    world = fleet(A, B, C, mib=100)
    world.ask("a", work_seconds=8)
    world.run(3)
    low = world.ask("b", priority=1)
    world.run(2)
    high = world.ask("c", priority=3)
    world.run_until(lambda: low.is_over and high.is_over)
    assert (high.first_claimed_at or math.inf) < (low.first_claimed_at or 0)


def test_low_priority_is_not_starved_by_a_steady_stream_of_high() -> None:
    world = fleet(A, B, C, mib=100)
    low = world.ask("c", priority=1)
    for _ in range(60):
        world.ask("a", priority=3)
        world.ask("b", priority=3)
        world.run(1)
    assert low.is_over


def test_a_large_model_is_not_starved_by_small_ones() -> None:
    small = [SimModel(f"s{number}", mib=50) for number in range(8)]
    world = fleet(SimModel("large", mib=200), *small)
    large = world.ask("large", priority=1)
    for second in range(240):
        world.ask(f"s{second % 8}", priority=3)
        world.run(1)
        if large.is_over:
            break
    assert large.is_over
    assert max(world.waits) < 120


def test_several_replicas_of_a_version_are_spread_over_nodes() -> None:
    world = Fleet([SimModel("a", preload_workers=2)], [node(name="one"), node(name="two")], RULES)
    world.run(10)
    assert sorted(row.node for row in world.rows if row.state == "ready") == ["one", "two"]


def test_more_replicas_than_fit_are_not_forced_in() -> None:
    world = Fleet([SimModel("a", preload_workers=5), B], [node(250)], RULES)
    world.run(20)
    assert sum(row.state == "ready" for row in world.rows) == 2
    request = world.ask("b")
    world.run_until(lambda: request.is_over)
    assert world.resident() == {"a", "b"}


def test_a_preloaded_version_comes_back_into_free_memory_and_evicts_nothing() -> None:
    world = fleet(SimModel("a", preload_workers=1), SimModel("b", keep_alive_seconds=30), mib=100)
    world.run(10)
    assert world.resident() == {"a"}
    world.ask("b")
    world.run(15)
    assert world.resident() == {"b"}
    world.run(15)
    assert world.resident() == {"b"}
    world.run(30)
    assert world.resident() == {"a"}


def test_a_second_node_takes_a_version_that_does_not_fit_on_the_first() -> None:
    world = Fleet([A, B], [node(100, "one"), node(100, "two")], RULES)
    requests = [world.ask("a", work_seconds=60), world.ask("b", work_seconds=60)]
    world.run(10)
    assert all(one.first_claimed_at for one in requests)
    assert world.swaps == []


def test_a_node_that_is_gone_hands_its_work_to_another() -> None:
    world = Fleet([A], [node(name="one"), node(name="two")], RULES)
    request = world.ask("a", work_seconds=20)
    world.run_until(lambda: request.first_claimed_at is not None)
    first = world.row("a").node
    world.nodes = [node(name=one.name, is_alive=one.name != first) for one in world.nodes]
    world.dies = lambda row: row.node == first
    world.run_until(lambda: request.is_over)
    assert not request.refused


def test_loads_of_one_node_are_not_all_at_once() -> None:
    world = fleet(A, B, C, mib=300, rules=Rules(max_loads=1))
    requests = [world.ask(key) for key in "abc"]
    while not all(one.is_over for one in requests):
        world.tick()
        assert sum(row.state in ("starting", "loading") for row in world.rows) <= 1


def test_the_number_of_hosts_is_a_budget_too() -> None:
    world = Fleet([A, B], [node(max_replicas=1)], RULES)
    world.ask("a")
    world.run(10)
    request = world.ask("b")
    world.run_until(lambda: request.is_over)
    assert world.resident() == {"b"}


def test_budgets_are_kept_per_device() -> None:
    gpu = SimModel("g", device="cuda:0")
    machine = NodeView("local", {"cpu": 100 * MIB, "cuda:0": 100 * MIB}, 8)
    world = Fleet([A, gpu], [machine], RULES)
    requests = [world.ask("a", work_seconds=30), world.ask("g", work_seconds=30)]
    world.run(8)
    assert all(one.first_claimed_at for one in requests)
    elsewhere = Fleet([gpu], [node()], RULES)
    refused = elsewhere.ask("g")
    elsewhere.tick()
    assert refused.refused == "local has no cuda:0."


def test_a_version_loaded_by_a_person_evicts_idle_replicas_and_busy_ones_after_the_wait() -> None:
    world = fleet(A, B, mib=100)
    world.ask("a", work_seconds=1000)
    world.run(5)
    world.load("b")
    world.run(RULES.maximum_wait_seconds - 2)
    assert world.swaps == []
    world.run(4)
    assert [swap.victim for swap in world.swaps] == ["a"]


def test_a_replica_that_waits_for_memory_says_why() -> None:
    world = fleet(A, B, mib=100)
    world.ask("a", work_seconds=1000)
    world.run(5)
    world.load("b")
    world.tick()
    assert world.last.reasons["b"].text == (
        "It needs 100 MiB of cpu memory; on local 0 bytes of 100 MiB are free, "
        "100 MiB held by models in use (a)."
    )
    assert not world.last.reasons["b"].is_final
