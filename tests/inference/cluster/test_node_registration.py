"""A cluster publishes its node, withdraws it when it stops, and kills fenced hosts."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import django.db
import pytest
import redis
from django.conf import settings

from inference.cluster import sentinel
from inference.cluster.liveness import LivenessLock
from inference.cluster.names import MODELS_CLUSTER, cluster_queue_name
from inference.cluster.sentinel import GuardedSentinel
from inference.management.commands import cluster as command
from models_registry.fleet.nodes import NodeFacts

GUARDED_CYCLES = 5


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The guard loop of a models cluster without processes; a second passes in each cycle."""
    clock = {"now": 0.0}

    def is_told_to_stop() -> bool:
        clock["now"] += 10.0
        return clock["now"] > 10.0 * GUARDED_CYCLES

    written: list[tuple[str, ...]] = []
    fenced: set[str] = set()

    def publish_node(_: object, node: str, launches: dict[str, int]) -> set[str]:
        written.append(("show", node, *launches))
        return fenced & launches.keys()

    def withdraw_node(_: object, node: str) -> None:
        written.append(("hide", node))

    monkeypatch.setattr(sentinel, "publish_node", publish_node)
    monkeypatch.setattr(sentinel, "withdraw_node", withdraw_node)
    monkeypatch.setattr(sentinel, "liveness_folder", lambda: tmp_path)
    child = SimpleNamespace(is_alive=lambda: True)
    monkeypatch.setattr(sentinel, "time", SimpleNamespace(monotonic=lambda: clock["now"]))
    monkeypatch.setattr(sentinel, "Stat", lambda _: SimpleNamespace(save=lambda: None))
    monkeypatch.setattr(
        sentinel.Conf, "CLUSTER_NAME", cluster_queue_name(MODELS_CLUSTER, settings.NODE_NAME)
    )
    monkeypatch.setattr(sentinel.Conf, "SCHEDULER", False)
    found = GuardedSentinel.__new__(GuardedSentinel)
    found.start_event = SimpleNamespace(set=lambda: None)
    monkeypatch.setattr(found, "_wait_for_stop", is_told_to_stop)
    found.pool, found.monitor, found.pusher = [], child, child
    found.broker = SimpleNamespace(connection=None)
    found._killed = set()
    monkeypatch.setattr(found, "_host_logs", SimpleNamespace(publish=lambda _: None), raising=False)
    found.fenced = fenced
    monkeypatch.setattr(found, "stop", lambda: written.append(("stop",)))
    found.queue_name = lambda: "models"
    found._register = None
    found.written = written
    return found


def test_registration_of_a_node_is_retried(guarded: Any) -> None:
    answers = [True]
    guarded._register = lambda: answers.pop()
    guarded.guard()
    assert answers == []
    assert guarded._register is None


def test_a_node_withdraws_before_it_stops(guarded: Any) -> None:
    guarded.guard()
    node = settings.NODE_NAME
    assert guarded.written[-3:] == [("show", node), ("hide", node), ("stop",)]


def test_a_fenced_host_is_killed_once(guarded: Any, tmp_path: Path) -> None:
    killed: list[int] = []
    lock = SimpleNamespace(acquire=lambda **_: True, release=lambda: None)
    timer = SimpleNamespace(get_lock=lambda: lock, get_obj=lambda: SimpleNamespace(value=-1))
    guarded.pool = [
        SimpleNamespace(
            pid=pid, timer=timer, is_alive=lambda: True, kill=lambda pid=pid: killed.append(pid)
        )
        for pid in (os.getpid(), os.getpid() + 1)
    ]
    LivenessLock(tmp_path, "stuck").hold()
    LivenessLock(tmp_path, "serving").hold()
    guarded.fenced |= {"stuck", "elsewhere"}
    guarded.guard()
    assert killed == [os.getpid()]
    assert set(guarded.written[0]) == {"show", settings.NODE_NAME, "stuck", "serving"}


def test_a_fenced_host_is_killed_though_logs_cannot_be_published(
    guarded: Any, tmp_path: Path
) -> None:
    killed: list[str] = []

    def publish(_: object) -> None:
        raise redis.ConnectionError("away")

    guarded._host_logs = SimpleNamespace(publish=publish)
    guarded.pool = [SimpleNamespace(pid=os.getpid(), kill=lambda: killed.append("stuck"))]
    LivenessLock(tmp_path, "stuck").hold()
    guarded.fenced.add("stuck")
    guarded._publish_node()
    guarded._publish_node()
    assert killed == ["stuck"]


def test_a_cluster_without_hosts_publishes_no_node(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel.Conf, "CLUSTER_NAME", "jobs")
    guarded.guard()
    assert guarded.written == [("stop",)]


def test_a_cluster_starts_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | None] = [django.db.OperationalError("away"), None]

    def register_this_node(*_: object) -> None:
        error = answers.pop(0)
        if error is not None:
            raise error

    monkeypatch.setattr(command, "probe_node", NodeFacts)
    monkeypatch.setattr(command, "register_this_node", register_this_node)
    monkeypatch.setattr(command.django.db.connections, "close_all", lambda: None)
    register = command._node_registration()
    assert [register(), register()] == [False, True]
