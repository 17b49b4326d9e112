"""Stopping a cluster: tasks that listen, tasks that do not, tasks not yet taken."""

import os
import signal
import time
from pathlib import Path

import pytest
from django_q.models import Task

from tests.faults.cluster_process import ClusterProcess, is_alive
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_idle_cluster_stops_at_once() -> None:
    with ClusterProcess(workers=2, stop_seconds=8) as cluster:
        processes = cluster.processes()
        begun = time.monotonic()
        cluster.main.terminate()
        assert cluster.main.wait(10) == 0
        assert time.monotonic() - begun < 4
        assert not any(map(is_alive, processes))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_task_that_notices_the_stop_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with ClusterProcess(workers=1, stop_seconds=8) as cluster:
        cluster.run("drain", tmp_path / "task")
        begun = time.monotonic()
        cluster.main.send_signal(number)
        assert cluster.main.wait(10) == 0
        assert time.monotonic() - begun < 4
        task = Task.objects.get(func__endswith=".drain")
        assert (task.success, task.result) == (True, "drained")


def test_signal_to_the_process_group_lets_tasks_end_cleanly(tmp_path: Path) -> None:
    with ClusterProcess(workers=1, stop_seconds=8) as cluster:
        cluster.run("drain", tmp_path / "task")
        os.killpg(cluster.main.pid, signal.SIGTERM)
        assert cluster.main.wait(10) == 0
        assert Task.objects.get(func__endswith=".drain").result == "drained"


def test_task_that_ignores_the_stop_is_killed_at_the_deadline(tmp_path: Path) -> None:
    with ClusterProcess(workers=2, stop_seconds=2.5) as cluster:
        deaf = cluster.run("hold", tmp_path / "deaf")
        cluster.run("drain", tmp_path / "listening")
        processes = cluster.processes()
        begun = time.monotonic()
        cluster.main.terminate()
        assert cluster.main.wait(10) == 0
        assert time.monotonic() - begun < 2.5 + 1
        assert deaf in processes
        assert not any(map(is_alive, processes))
        assert Task.objects.get(func__endswith=".drain").result == "drained"


def test_stopped_sentinel_is_killed_at_the_deadline(tmp_path: Path) -> None:
    with ClusterProcess(workers=1, stop_seconds=2.5) as cluster:
        cluster.run("hold", tmp_path / "busy")
        processes = cluster.processes()
        os.kill(cluster.stat().sentinel, signal.SIGSTOP)
        begun = time.monotonic()
        cluster.main.terminate()
        assert cluster.main.wait(10) == 0
        assert time.monotonic() - begun < 2.5 + 1
        wait_until(lambda: not any(map(is_alive, processes)), 5)


def test_task_not_yet_taken_returns_to_redis(tmp_path: Path) -> None:
    with ClusterProcess(workers=1, stop_seconds=2.5) as cluster:
        cluster.run("hold", tmp_path / "busy")
        cluster.enqueue("note", tmp_path / "first")
        cluster.enqueue("note", tmp_path / "second")
        wait_until(lambda: cluster.broker.queue_size() == 1)  # the pusher holds the other
        cluster.main.terminate()
        assert cluster.main.wait(10) == 0
        assert cluster.broker.queue_size() == 2
        assert not (tmp_path / "first").exists()
