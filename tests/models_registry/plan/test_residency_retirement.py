"""Replicas that leave memory though no other version needs the room."""

from dataclasses import replace

import pytest

from models_registry.plan.facts import NodeView, Rules
from models_registry.plan.lifecycle import CRASH_LOOP
from tests.models_registry.fleet_simulator import MIB, Fleet, SimModel

RULES = Rules(minimum_dwell_seconds=5, maximum_wait_seconds=15)
NODE = NodeView("local", {"cpu": 200 * MIB}, max_replicas=8)
A, B, C = (SimModel(key) for key in "abc")
LARGER = SimModel("larger", held_mib=120)


def world(*models: SimModel, node: NodeView = NODE) -> Fleet:
    """One node."""
    return Fleet(models, [node], RULES)


def serving(fleet: Fleet, *keys: str) -> None:
    """Bring versions in by a request each, and let them dwell."""
    for key in keys:
        request = fleet.ask(key)
        fleet.run_until(lambda one=request: one.is_over)  # type: ignore[misc]
    fleet.run(RULES.minimum_dwell_seconds)


def test_an_idle_replica_is_evicted_when_another_takes_more_than_was_foreseen() -> None:
    fleet = world(A, LARGER)
    serving(fleet, "a")
    fleet.ask("larger", work_seconds=60)
    fleet.run(10)
    assert fleet.resident() == {"larger"}
    ((_, key, reason),) = fleet.retired
    assert (key, reason) == (
        "a",
        "Evicted because local exceeds its budget by 20.0 MiB of cpu memory.",
    )
    # What was measured is what is foreseen from now on: they do not come in together again.
    fleet.ask("a")
    fleet.run(RULES.maximum_wait_seconds - 1)
    assert fleet.resident() == {"larger"}


def test_idle_replicas_are_evicted_when_a_budget_is_lowered_the_longest_idle_first() -> None:
    fleet = world(A, B)
    serving(fleet, "b", "a")
    fleet.limit(replace(NODE, budgets={"cpu": 150 * MIB}), within_seconds=2)
    fleet.run(5)
    assert fleet.resident() == {"a"}


def test_idle_replicas_are_evicted_when_fewer_hosts_are_allowed() -> None:
    fleet = world(A, B)
    serving(fleet, "a", "b")
    fleet.limit(replace(NODE, max_replicas=1), within_seconds=2)
    fleet.run(5)
    assert fleet.resident() == {"b"}
    assert fleet.retired[0][2] == "Evicted because local exceeds its budget by 1 host(s)."


def test_busy_replicas_are_evicted_after_the_maximum_wait_and_finish_their_requests() -> None:
    fleet = world(A, B)
    running = [fleet.ask(key, work_seconds=40) for key in "ab"]
    fleet.run(10)
    lowered = fleet.now
    fleet.limit(replace(NODE, budgets={"cpu": 150 * MIB}), within_seconds=60)
    fleet.run(RULES.maximum_wait_seconds - 1)
    assert fleet.retired == []
    fleet.run_until(lambda: all(one.is_over for one in running))
    assert [one.refused for one in running] == ["", ""]
    ((at, _, _),) = fleet.retired
    assert at - lowered == pytest.approx(RULES.maximum_wait_seconds, abs=1)


def test_pinned_replicas_stay_though_a_budget_is_lowered_below_them() -> None:
    fleet = world(SimModel("p", pinned=True), A)
    serving(fleet, "a")
    fleet.limit(replace(NODE, budgets={"cpu": 100 * MIB}), within_seconds=10)
    fleet.run(20)
    assert fleet.resident() == {"p"}
    fleet.limit(replace(NODE, budgets={"cpu": 50 * MIB}), within_seconds=600)
    refused = fleet.ask("a")
    fleet.run(60)
    assert fleet.resident() == {"p"}
    assert fleet.last.overdrawn == ["local"]
    assert "may use 50.0 MiB" in refused.refused


def test_no_replica_is_evicted_where_pinned_ones_alone_exceed_the_budget() -> None:
    fleet = world(SimModel("p", pinned=True), A)
    serving(fleet, "a")
    fleet.limit(replace(NODE, budgets={"cpu": 50 * MIB}), within_seconds=600)
    fleet.run(60)
    assert fleet.resident() == {"p", "a"}
    assert fleet.last.overdrawn == ["local"]


def test_a_device_is_relieved_though_pinned_replicas_exceed_the_budget_of_another() -> None:
    node = replace(NODE, budgets={"cpu": 200 * MIB, "cuda:0": 200 * MIB})
    gpu = SimModel("g", device="cuda:0"), SimModel("h", device="cuda:0")
    fleet = world(SimModel("p", pinned=True), A, *gpu, node=node)
    serving(fleet, "a", "g", "h")
    fleet.limit(replace(node, budgets={"cpu": 50 * MIB, "cuda:0": 150 * MIB}), within_seconds=600)
    fleet.run(10)
    ((_, key, reason),) = fleet.retired
    assert (key, reason) == (
        "g",
        "Evicted because local exceeds its budget by 50.0 MiB of cuda:0 memory.",
    )


def test_embedding_models_that_stay_are_the_last_to_leave() -> None:
    stays = SimModel("e", is_embedding=True, preload_workers=1)
    fleet = world(stays, A)
    serving(fleet, "e", "a")
    fleet.limit(replace(NODE, budgets={"cpu": 150 * MIB}), within_seconds=2)
    fleet.run(30)
    assert fleet.resident() == {"e"}


def test_a_replica_that_leaves_already_is_waited_for() -> None:
    fleet = world(A, B)
    serving(fleet, "a")
    busy = fleet.ask("b", work_seconds=60)
    fleet.run(10)
    fleet.unload("b")
    fleet.limit(replace(NODE, budgets={"cpu": 150 * MIB}), within_seconds=90)
    fleet.run_until(lambda: busy.is_over)
    assert fleet.retired == []
    assert fleet.resident() == {"a"}


def test_copies_beyond_those_wanted_leave_by_their_keep_alive() -> None:
    several = SimModel("a", mib=50, preload_workers=3, keep_alive_seconds=60)
    fleet = world(several)
    fleet.run(30)
    assert [row.state for row in fleet.rows] == ["ready"] * 3
    fleet.models["a"] = replace(several, preload_workers=1)
    for row in fleet.rows:
        row.model = fleet.models["a"]
    fleet.run(20)
    assert len(fleet.retired) == 0
    fleet.run(40)
    assert sorted(row.state for row in fleet.rows) == ["ready", "stopped", "stopped"]
    fleet.run(300)
    assert sorted(row.state for row in fleet.rows) == ["ready", "stopped", "stopped"]


def test_a_version_loaded_by_a_person_dwells_though_its_keep_alive_is_zero() -> None:
    fleet = world(SimModel("a", keep_alive_seconds=0))
    fleet.load("a")
    fleet.run_until(lambda: fleet.row("a").state == "ready")
    fleet.run(RULES.minimum_dwell_seconds - 1)
    assert fleet.resident() == {"a"}
    fleet.run(2)
    assert fleet.resident() == set()


def test_a_version_loaded_by_a_request_leaves_with_it_when_its_keep_alive_is_zero() -> None:
    fleet = world(SimModel("a", keep_alive_seconds=0))
    request = fleet.ask("a")
    fleet.run_until(lambda: request.is_over)
    fleet.run(2)
    assert fleet.resident() == set()


def test_an_embedding_model_that_stays_keeps_its_room_when_its_host_dies() -> None:
    stays = SimModel("e", is_embedding=True, preload_workers=1)
    fleet = world(stays, A, B)
    fleet.ask("a", work_seconds=40)
    fleet.run(10)
    waiting = fleet.ask("b")
    deaths = iter([True, False, False, True])  # the second as it loads again, so that it rests
    fleet.dies = lambda row: row.model.key == "e" and next(deaths, False)
    fleet.run(RULES.maximum_wait_seconds - 2)
    assert fleet.row("e").crashes == 2
    assert fleet.resident() == {"a", "e"}
    fleet.run_until(lambda: waiting.is_over)
    assert waiting.refused == ""


def test_an_embedding_model_in_a_crash_loop_keeps_no_room() -> None:
    stays = SimModel("e", mib=150, is_embedding=True, preload_workers=1)
    fleet = world(stays, A)
    fleet.dies = lambda row: row.model.key == "e"
    fleet.run_until(lambda: any(row.crashes == CRASH_LOOP for row in fleet.rows))
    request = fleet.ask("a")
    fleet.run_until(lambda: request.is_over, 20)
    assert request.refused == ""


def test_an_embedding_model_loaded_by_a_request_is_evicted() -> None:
    fleet = world(SimModel("e", is_embedding=True), SimModel("large", mib=150))
    serving(fleet, "e")
    request = fleet.ask("large")
    fleet.run_until(lambda: request.is_over)
    assert request.refused == ""
    assert fleet.resident() == {"large"}


def test_an_embedding_model_loaded_by_a_request_is_evicted_after_the_others() -> None:
    fleet = world(SimModel("e", is_embedding=True), A, B)
    serving(fleet, "e", "a")
    request = fleet.ask("b")
    fleet.run_until(lambda: request.is_over)
    assert fleet.resident() == {"e", "b"}


def test_a_version_that_dies_of_each_sparse_request_is_a_crash_loop() -> None:
    fleet = world(SimModel("a", preload_workers=1))
    fleet.run(10)
    fleet.dies = lambda row: bool(row.host and row.host.running)
    for _ in range(2):
        request = fleet.ask("a", work_seconds=5)
        fleet.run_until(lambda: "a" not in fleet.resident())
        fleet.queues["a"].clear()  # it is taken for the cause and failed
        request.refused = "poison"
        fleet.run(60)  # it is ready again, and idle
        assert fleet.resident() == {"a"}
    fleet.ask("a", work_seconds=5)
    fleet.run_until(lambda: "a" not in fleet.resident())
    assert fleet.row("a").crashes == CRASH_LOOP
    assert "3 times in a row" in fleet.row("a").failure


def test_a_version_that_answers_in_between_is_no_crash_loop() -> None:
    fleet = world(SimModel("a", preload_workers=1))
    fleet.run(10)
    for _ in range(4):
        deaths = iter([True])
        fleet.dies = lambda _, left=deaths: next(left, False)  # type: ignore[misc]
        fleet.run(15)
        request = fleet.ask("a")
        fleet.run_until(lambda one=request: one.is_over)  # type: ignore[misc]
        fleet.run(15)
        assert fleet.row("a").crashes == 0
