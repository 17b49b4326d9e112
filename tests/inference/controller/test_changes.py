"""A controller that found all in order looks again when, and only when, something happens."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from inference.cluster.liveness import LivenessLock
from inference.controller import controller as controller_module
from inference.controller.changes import FULL_TICK_SECONDS, full_tick_in_seconds, is_settled
from inference.controller.observe import Observation
from inference.queue import keys
from models_registry.fleet import desired
from models_registry.fleet.snapshot import take_snapshot
from models_registry.models import ModelVersion, Registration, Replica
from models_registry.plan.facts import NodeView, ReplicaView, Rules, VersionView
from models_registry.plan.lifecycle import Action
from models_registry.plan.plan import Plan
from tests.inference.controller.controlled_fleet import Fleet
from tests.models_registry.fleet_rows import a_node, a_version


@pytest.fixture
def looks(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each look at everything, of a controller that has found all in order."""
    seen: list[int] = []

    def snapshot() -> Any:
        seen.append(1)
        return take_snapshot()

    monkeypatch.setattr(controller_module, "take_snapshot", snapshot)
    fleet.start()
    LivenessLock(fleet.folder, fleet.launch).hold()
    fleet.show_node(fleet.replica.node, fleet.launch)
    # Within its lease however slow the test is.
    fleet.world.redis.zadd(keys.HOSTS, {fleet.launch: 1e12})
    _attend(fleet, times=4)
    seen.clear()
    return seen


def _attend(fleet: Fleet, times: int = 1) -> None:
    for _ in range(times):
        fleet.now += 0.5
        assert fleet.controller.attend()


def _enqueue(fleet: Fleet) -> None:
    fleet.world.redis.zadd(keys.queue(fleet.replica.version.key), {"an item": 1})


def _claim(fleet: Fleet) -> None:
    fleet.world.redis.hset(keys.claims(fleet.launch), "an item", 0)


def _be_asked_and_answer(fleet: Fleet) -> None:
    fleet.world.redis.hset(keys.USED, fleet.replica.version.key, "1.5")


def _fall_silent(fleet: Fleet) -> None:
    fleet.world.redis.zadd(keys.HOSTS, {fleet.launch: 1})


def _die(fleet: Fleet) -> None:
    lock = fleet.folder / f"host-{fleet.launch}.lock"
    lock.unlink()  # what the kernel does to the lock of a process that dies
    lock.touch()


def _leave_work_behind(fleet: Fleet) -> None:
    fleet.world.redis.sadd(keys.DEAD, "a launch")


def _stop_the_cluster(fleet: Fleet) -> None:
    fleet.world.redis.delete(keys.node(fleet.replica.node.name))


def _end_the_process(fleet: Fleet) -> None:
    fleet.show_node(fleet.replica.node)


def _appear(fleet: Fleet) -> None:
    launch = fleet.world.new_launch()
    fleet.world.redis.zadd(keys.HOSTS, {launch: 1e12})


def _drain(fleet: Fleet) -> None:
    desired.unload(fleet.replica.version)


def _pin(fleet: Fleet) -> None:
    ModelVersion.objects.update(pinned=True)


def _register(fleet: Fleet) -> None:
    Registration.objects.create(
        model_id="m",
        requester="r",
        requirement={"device": "auto", "preload_workers": 1},
        version=fleet.replica.version,
    )


def _add_a_version(_: Fleet) -> None:
    a_version()


def _add_a_node(_: Fleet) -> None:
    a_node()


def _delete(fleet: Fleet) -> None:
    Replica.objects.all().delete()


@pytest.mark.parametrize(
    "happen",
    [
        *(_enqueue, _claim, _be_asked_and_answer, _leave_work_behind),
        *(_fall_silent, _die, _stop_the_cluster, _end_the_process, _appear),
        *(_drain, _pin, _register, _add_a_version, _add_a_node, _delete),
    ],
)
def test_changes_are_looked_at_at_once(
    fleet: Fleet, looks: list[int], happen: Callable[[Fleet], None]
) -> None:
    _attend(fleet, times=3)
    assert looks == []
    happen(fleet)
    _attend(fleet)
    assert looks == [1]
    fleet.world.redis.delete(keys.queue(fleet.replica.version.key), keys.claims(fleet.launch))
    fleet.world.redis.srem(keys.DEAD, "a launch")


def test_changes_that_do_not_come_leave_the_announcement_believed(
    fleet: Fleet, looks: list[int]
) -> None:
    client = fleet.world.redis
    client.expire(keys.LOADABLE, 1)
    _attend(fleet)
    assert looks == []
    assert client.ttl(keys.LOADABLE) > 1


def test_changes_that_only_time_makes_are_looked_at_now_and_then(
    fleet: Fleet, looks: list[int]
) -> None:
    _attend(fleet, times=int(3 * FULL_TICK_SECONDS / 0.5))
    assert len(looks) == 3


def test_changes_during_a_look_are_seen_by_the_next(
    fleet: Fleet, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = controller_module.plan

    def pin_meanwhile(*arguments: Any) -> Plan:
        drawn = plan(*arguments)
        if len(looks) == 1:
            ModelVersion.objects.update(pinned=True)
        return drawn

    monkeypatch.setattr(controller_module, "plan", pin_meanwhile)
    fleet.now += FULL_TICK_SECONDS
    _attend(fleet)
    assert looks == [1]
    _attend(fleet)
    assert looks == [1, 1]


def test_changes_are_not_compared_across_an_outage(fleet: Fleet, looks: list[int]) -> None:
    fleet.controller.note_outage()
    _attend(fleet)
    assert looks == [1]


def test_changes_are_no_silence_of_nodes_while_there_are_none(
    fleet: Fleet, looks: list[int]
) -> None:
    _attend(fleet, times=7)
    _stop_the_cluster(fleet)
    _attend(fleet)
    assert fleet.controller._monitor._silence_of_nodes[fleet.replica.node.name] == 0.5


def test_changes_cannot_be_asked_of_a_redis_that_is_away(
    fleet: Fleet, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(fleet.controller._changes, "_script", fail)
    with pytest.raises(redis.ConnectionError):
        fleet.controller.attend()
    assert looks == []


READY = ReplicaView(1, "m@v", "n", state="ready", is_alive=True, state_age_seconds=100.0)
VERSION = VersionView("m@v", keep_alive_seconds=60.0, idle_seconds=20.0)
NODE = NodeView("n", {}, 4)


def _observation(replica: ReplicaView = READY, node: NodeView = NODE) -> Observation:
    return Observation(None, [node], {"m@v": VERSION}, [replica], {}, {})


def test_settled_is_a_fleet_of_which_nothing_is_due() -> None:
    assert is_settled(Plan(), _observation(), Rules())
    assert is_settled(
        Plan(), _observation(replace(READY, state="stopped", is_alive=False)), Rules()
    )
    assert not is_settled(Plan(actions=[(1, Action.DRAIN)]), _observation(), Rules())
    assert not is_settled(Plan(overdrawn=["n"]), _observation(), Rules())


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "starting"},
        {"state": "loading"},
        {"state": "draining"},
        {"is_alive": False},
        {"state": "stopped", "holds_memory": True},
        {"state": "failed", "crashes": 3},
        {"crashes": 1, "has_served": True},
    ],
)
def test_settled_is_no_fleet_where_something_moves(fields: dict[str, Any]) -> None:
    found = _observation(replace(READY, state_age_seconds=1.0, **fields))
    assert not is_settled(Plan(), found, Rules())


@pytest.mark.parametrize(("silence", "settled"), [(29.0, False), (31.0, True)])
def test_settled_is_a_node_that_is_not_expected_back(silence: float, settled: bool) -> None:
    node = replace(NODE, is_alive=False, silence_seconds=silence)
    assert is_settled(Plan(), _observation(node=node), Rules()) is settled


@pytest.mark.parametrize(
    ("keep_alive", "seconds"),
    [
        (60.0, FULL_TICK_SECONDS),
        (22.0, 2.0),
        (20.0, FULL_TICK_SECONDS),
        (math.inf, FULL_TICK_SECONDS),
    ],
)
def test_full_tick_comes_when_a_keep_alive_ends(keep_alive: float, seconds: float) -> None:
    found = _observation()
    found.versions["m@v"] = replace(VERSION, keep_alive_seconds=keep_alive)
    assert full_tick_in_seconds(found) == seconds
