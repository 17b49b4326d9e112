"""Fleets with a fault: a request that is being served is not refused, and none waits for ever."""

import math

from models_registry.plan.facts import NodeView, Rules
from tests.models_registry.fleet_simulator import MIB, Fleet, SimModel

RULES = Rules(minimum_dwell_seconds=5, maximum_wait_seconds=15)
A, B, C = (SimModel(key) for key in "abc")


def node(mib: int, name: str = "local") -> NodeView:
    """A machine with so much for models."""
    return NodeView(name, {"cpu": mib * MIB}, max_replicas=8)


def fleet(*models: SimModel, mib: int, rules: Rules = RULES) -> Fleet:
    """One node."""
    return Fleet(models, [node(mib)], rules)


def test_a_second_copy_that_never_fits_refuses_no_request() -> None:
    world = fleet(SimModel("a", pinned=True, preload_workers=2, max_sequences=1), mib=150)
    world.run(10)
    requests = [world.ask("a", work_seconds=5) for _ in range(4)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert [one.refused for one in requests] == [""] * 4


def test_a_second_copy_that_never_fits_says_how_much_the_first_takes() -> None:
    world = fleet(A, mib=150)
    for _ in range(2):
        world.load("a")
    world.run(RULES.maximum_wait_seconds + 10)
    assert [row.state for row in world.rows] == ["ready", "stopped"]
    assert world.last.reasons["a"].text == (
        "It needs 100 MiB of cpu memory; on local 50.0 MiB of 150 MiB are free, "
        "100 MiB held by its other copies (a)."
    )


def test_a_replica_for_a_node_that_is_too_small_refuses_no_request() -> None:
    world = Fleet([SimModel("a", max_sequences=1)], [node(150), node(50, "small")], RULES)
    world.load("a", "local")
    world.run(10)
    world.load("a", "small")
    requests = [world.ask("a", work_seconds=5) for _ in range(4)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert [one.refused for one in requests] == [""] * 4


def test_a_ready_replica_serves_though_no_node_takes_tasks() -> None:
    world = fleet(SimModel("a", preload_workers=2, max_sequences=1), mib=100)
    world.run(10)
    world.nodes = [NodeView("local", {"cpu": 100 * MIB}, 8, is_alive=False)]
    requests = [world.ask("a", work_seconds=5) for _ in range(3)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert [one.refused for one in requests] == [""] * 3


def test_a_cluster_that_restarts_loses_nothing() -> None:
    world = Fleet([A, B], [node(150)], RULES)
    running, waiting = world.ask("a", work_seconds=30), world.ask("b")
    world.run(10)
    world.lose("local")
    late = world.ask("a")
    world.run(RULES.node_patience_seconds - 2)
    assert not any(one.is_over for one in (running, waiting, late))
    assert world.last.reasons["a"].text == "Waiting for local, which does not answer."
    world.regain("local")
    requests = (running, waiting, late)
    world.run_until(lambda: all(one.is_over for one in requests))
    assert {one.refused for one in requests} == {""}


def test_a_cluster_that_stays_away_refuses_requests_that_have_not_begun() -> None:
    world = Fleet([A], [node(100)], RULES)
    begun = world.ask("a", work_seconds=30)
    world.run(10)
    world.lose("local")
    fresh = world.ask("a")
    world.run(RULES.node_patience_seconds + 1)
    assert "No node runs a models cluster" in fresh.refused
    world.run(60)
    assert not begun.is_over
    world.regain("local")
    world.run_until(lambda: begun.is_over)
    assert begun.refused == ""


def test_a_request_waits_for_the_only_node_that_is_large_enough() -> None:
    world = Fleet([A], [node(150), node(50, "small")], RULES)
    world.lose("local")
    request = world.ask("a")
    world.run(RULES.node_patience_seconds - 2)
    assert not request.is_over
    world.regain("local")
    world.run_until(lambda: request.is_over)
    assert request.refused == ""


def test_a_version_that_rests_is_not_refused_for_a_node_that_is_too_small() -> None:
    world = Fleet([A], [node(150), node(50, "small")], RULES)
    deaths = iter([True, True])
    world.dies = lambda row: row.state == "loading" and next(deaths, False)
    request = world.ask("a")
    world.run_until(lambda: request.is_over)
    assert request.refused == ""
    assert world.loads_of("a") == 3


def test_a_ready_version_whose_new_download_failed_goes_on_serving() -> None:
    world = fleet(SimModel("a", max_sequences=1), mib=100)
    world.load("a")
    world.run(10)
    world.unusable["a"] = "The file of a is failed."
    requests = [world.ask("a", work_seconds=5) for _ in range(3)]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert [one.refused for one in requests] == [""] * 3
    world.unload("a")
    world.run(10)
    late = world.ask("a")
    world.tick()
    assert late.refused == "The file of a is failed."


def test_a_long_drain_is_not_waited_for_while_an_idle_replica_can_be_evicted() -> None:
    world = fleet(A, B, C, mib=200)
    world.ask("a", work_seconds=600)
    world.ask("b")
    world.run(20)
    world.unload("a")
    request = world.ask("c")
    world.run(1)
    assert world.swaps == []
    waited = world.run_until(lambda: request.is_over)
    assert waited < RULES.drain_patience_seconds + 10
    assert [swap.victim for swap in world.swaps] == ["b"]


def test_a_long_drain_is_waited_for_where_no_other_replica_can_be_evicted() -> None:
    world = fleet(A, B, C, mib=100)
    world.ask("a", work_seconds=60)
    world.run(10)
    world.unload("a")
    first = world.ask("b")
    world.run(25)
    second = world.ask("c", priority=3)
    world.run_until(lambda: first.is_over and second.is_over)
    assert first.refused == second.refused == ""
    assert (first.first_claimed_at or math.inf) < (second.first_claimed_at or 0)


def test_a_long_drain_is_promised_to_one_version_only() -> None:
    world = fleet(A, B, C, SimModel("d"), mib=200)
    world.ask("a", work_seconds=60)
    world.ask("b")
    world.run(10)
    world.unload("a")
    world.run(RULES.drain_patience_seconds + 1)
    requests = [world.ask("c", work_seconds=20), world.ask("d")]
    world.run(5)
    assert [swap.victim for swap in world.swaps] == ["b"]
    world.run_until(lambda: all(one.is_over for one in requests))
    assert {one.refused for one in requests} == {""}


def test_a_hung_host_is_not_waited_for_while_an_idle_replica_can_be_evicted() -> None:
    world = fleet(A, B, C, mib=200)
    world.load("a")
    world.load("b")
    world.run(20)
    world.freeze("a", for_good=True)
    world.unload("a")
    request = world.ask("c")
    waited = world.run_until(lambda: request.is_over)
    assert waited < RULES.lease_seconds + RULES.drain_patience_seconds + 10
    assert [swap.victim for swap in world.swaps] == ["b"]


def test_a_hung_host_is_named_and_leaves_free_memory_to_others() -> None:
    world = fleet(A, B, SimModel("small", mib=40), mib=150)
    world.load("a")
    world.run(10)
    world.freeze("a", for_good=True)
    world.unload("a")
    waiting = world.ask("b")
    world.run(RULES.maximum_wait_seconds + 20)
    assert not waiting.is_over
    assert world.last.reasons["b"].text == (
        "It needs 100 MiB of cpu memory; on local 50.0 MiB of 150 MiB are free, "
        "100 MiB held by processes that have not ended yet (a)."
    )
    small = world.ask("small")
    world.run_until(lambda: small.is_over, 20)
    assert small.refused == ""


def test_a_preloaded_version_that_died_evicts_nothing() -> None:
    world = fleet(SimModel("p", mib=100, preload_workers=1), B, mib=100)
    world.run(20)
    busy = world.ask("b", work_seconds=1)
    world.run_until(lambda: busy.is_over)
    # The room is taken, so a row that is wanted again finds none.
    world.load("p")
    world.row("p").state = "failed"
    world.row("p").crashes = 1
    world.ask("b", work_seconds=200)
    world.run(RULES.maximum_wait_seconds + 30)
    assert [swap.victim for swap in world.swaps] == ["p"]
    assert world.resident() == {"b"}


def test_a_preloaded_version_that_died_keeps_no_room_from_requests() -> None:
    stays = SimModel("x", mib=100, load_seconds=math.inf)
    world = fleet(SimModel("p", mib=200, preload_workers=1), stays, B, mib=250)
    world.models["p"] = SimModel("p", mib=200)
    world.load("x")
    world.run(10)
    world.models["p"] = SimModel("p", mib=200, preload_workers=1)
    world.load("p").state = "failed"
    world.run(RULES.maximum_wait_seconds + 5)
    request = world.ask("b")
    world.run_until(lambda: request.is_over, 10)
    assert request.refused == ""


def test_only_the_first_of_several_lost_copies_evicts_others() -> None:
    world = fleet(SimModel("a", pinned=True, preload_workers=2), B, C, mib=200)
    world.models["a"] = A
    for key in "bc":
        world.ask(key)
    world.run(10)
    assert world.resident() == {"b", "c"}
    world.models["a"] = SimModel("a", pinned=True, preload_workers=2)
    for _ in range(2):
        row = world.load("a")
        row.state = "failed"
    world.run(60)
    assert len(world.swaps) == 1
    assert len(world.resident()) == 2


def test_a_host_that_serves_unnoticed_is_noted() -> None:
    world = fleet(A, B, mib=100)
    world.loses_ready = lambda row: row.model.key == "a"
    request = world.ask("a")
    world.run_until(lambda: request.is_over)
    assert world.row("a").state == "ready"
    other = world.ask("b")
    world.run_until(lambda: other.is_over)
    assert world.resident() == {"b"}


def test_loads_that_hang_do_not_keep_others_from_loading() -> None:
    hung = [SimModel(key, mib=50, load_seconds=math.inf) for key in "xy"]
    rules = Rules(load_stall_seconds=60)
    world = fleet(*hung, A, mib=300, rules=rules)
    for one in hung:
        world.ask(one.key)
    world.run(2)
    request = world.ask("a")
    world.run(rules.load_stall_seconds - 5)
    assert world.loads_of("a") == 0
    world.run_until(lambda: request.is_over, 20)
    assert request.refused == ""


def test_a_load_without_progress_fails_and_its_requests_are_told() -> None:
    rules = Rules(load_stall_seconds=60)
    world = fleet(SimModel("x", load_seconds=math.inf), B, mib=100, rules=rules)
    waiting = world.ask("x")
    world.run(rules.load_stall_seconds - 5)
    other = world.ask("b")
    assert not waiting.is_over
    world.run_until(lambda: other.is_over, 20)  # the memory is there for others
    assert waiting.refused == "x could not be loaded: it stood still."
    assert other.refused == ""


def test_a_load_with_progress_has_no_time_limit() -> None:
    rules = Rules(load_stall_seconds=60)
    world = fleet(SimModel("x", load_seconds=200), mib=100, rules=rules)
    request = world.ask("x")
    world.run_until(lambda: request.is_over)
    assert request.refused == ""
    assert world.loads_of("x") == 1


def test_a_load_without_progress_is_tried_on_another_node() -> None:
    rules = Rules(load_stall_seconds=60)
    world = Fleet([SimModel("x")], [node(150), node(150, "other")], rules)
    world.models["x"] = SimModel("x", load_seconds=math.inf)
    request = world.ask("x")
    world.run(5)
    world.models["x"] = SimModel("x")
    world.run_until(lambda: request.is_over)
    assert request.refused == ""
    assert [start.node for _, start in world.starts][:2] == ["local", "other"]


def test_a_host_that_does_not_leave_is_killed_and_gives_its_memory_back() -> None:
    rules = Rules(drain_timeout_seconds=100)
    world = fleet(A, B, mib=100, rules=rules)
    world.ignores_drain = lambda row: row.model.key == "a"
    world.load("a")
    world.run(20)
    world.unload("a")
    request = world.ask("b")
    waited = world.run_until(lambda: request.is_over)
    assert request.refused == ""
    assert rules.drain_timeout_seconds < waited < rules.drain_timeout_seconds + 10
    assert [key for _, key in world.kills] == ["a"]


def test_requests_of_a_host_that_does_not_leave_go_on_elsewhere() -> None:
    rules = Rules(drain_timeout_seconds=100)
    world = fleet(A, B, mib=100, rules=rules)
    world.ignores_drain = lambda _: not world.kills
    running = world.ask("a", work_seconds=200)
    world.run(10)
    world.unload("a")
    waiting = world.ask("b")
    world.run_until(lambda: waiting.is_over and running.is_over, 500)
    assert waiting.refused == running.refused == ""
    assert [key for _, key in world.kills] == ["a"]


def test_a_host_that_does_not_leave_is_not_waited_for_while_others_can_be_evicted() -> None:
    world = fleet(A, B, C, mib=200)
    world.ignores_drain = lambda row: row.model.key == "a"
    world.load("a")
    world.load("b")
    world.run(20)
    world.unload("a")
    request = world.ask("c")
    waited = world.run_until(lambda: request.is_over)
    assert waited < RULES.drain_patience_seconds + 10
    assert [swap.victim for swap in world.swaps] == ["b"]


def test_a_host_finishes_its_requests_before_it_leaves() -> None:
    world = fleet(A, mib=100)
    running = world.ask("a", work_seconds=RULES.drain_timeout_seconds - 20)
    world.run(10)
    world.unload("a")
    world.run_until(lambda: running.is_over, 2000)
    assert world.kills == []
    assert running.refused == ""
    assert world.loads_of("a") == 1


def test_a_frozen_host_gives_its_memory_back() -> None:
    world = fleet(A, B, mib=100)
    running = world.ask("a", work_seconds=30)
    world.run(10)
    world.freeze("a")
    waiting = world.ask("b")
    world.run_until(lambda: waiting.is_over and running.is_over)
    assert waiting.refused == running.refused == ""


def test_a_process_that_nothing_ends_keeps_its_memory_and_is_killed_again() -> None:
    world = fleet(A, B, mib=150)
    world.load("a")
    world.run(10)
    world.freeze("a", for_good=True)
    waiting = world.ask("b")
    world.run(60)
    assert not waiting.is_over
    assert len(world.kills) > 10
    world.row("a").is_hung = False  # its disk answers at last
    world.unload("a")
    world.run_until(lambda: waiting.is_over)
    assert waiting.refused == ""
