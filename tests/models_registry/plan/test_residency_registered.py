"""Registered versions in the plan: pure."""

from dataclasses import replace

from models_registry.plan.facts import NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.plan import Plan, plan

NODE = NodeView("local", {"cpu": 1000}, 4)
VERSION = VersionView(
    "m@v", (Placement("local", "auto", {"cpu": 100}),), idle_seconds=1000.0, registered_workers=2
)


def ready(number: int) -> ReplicaView:
    return ReplicaView(
        number, "m@v", "local", needs={"cpu": 100}, on_demand=True, state="ready",
        state_age_seconds=60.0, is_alive=True,
    )  # fmt: skip


def drawn(version: VersionView, *replicas: ReplicaView) -> Plan:
    return plan([NODE], [version], replicas, Rules())


def test_registered_workers_are_started_on_behalf_of_programs() -> None:
    starts = drawn(VERSION).starts
    assert [start.on_demand for start in starts] == [True, True]
    preloaded = replace(VERSION, preload_workers=1)
    assert [start.on_demand for start in drawn(preloaded).starts] == [False, False]


def test_registered_workers_are_no_more_than_there_is_room_for() -> None:
    many = replace(VERSION, registered_workers=64)
    assert len(plan([NODE], [many], [], Rules(max_loads=64)).starts) == NODE.max_replicas


def test_registered_workers_leave_when_their_registration_is_released() -> None:
    assert drawn(replace(VERSION, keep_alive_seconds=0.0), ready(1), ready(2)).retirements == []
    released = replace(VERSION, registered_workers=0, keep_alive_seconds=0.0)
    assert [one.replica_id for one in drawn(released, ready(1), ready(2)).retirements] == [2, 1]
    busy = replace(ready(1), busy=1)
    assert drawn(released, busy).retirements == []
