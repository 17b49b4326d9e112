"""Deaths inside a running cluster: real processes, really killed."""

import os
import signal
import uuid
from pathlib import Path

import pytest
from django_q.models import Task

from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.node import present_nodes
from inference.queue import keys
from tests.faults.cluster_process import ClusterProcess, is_alive, noted_pid
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_idle_worker_killed_leaves_the_cluster_taking_tasks(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        for _ in range(3):
            cluster.kill_worker()
        assert cluster.run("note", tmp_path / "task") > 0


def test_all_idle_workers_killed_at_once_are_replaced(tmp_path: Path) -> None:
    with ClusterProcess(workers=3) as cluster:
        killed = set(cluster.stat().workers)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not killed & set(cluster.stat().workers))
        pids = {cluster.run("hold", tmp_path / f"task{number}") for number in range(3)}
        assert len(pids) == 3


def test_busy_worker_killed_is_replaced_and_the_other_goes_on(tmp_path: Path) -> None:
    with ClusterProcess(workers=2) as cluster:
        victim = cluster.run("hold", tmp_path / "victim")
        other = cluster.run("hold", tmp_path / "other")
        os.kill(victim, signal.SIGKILL)
        assert cluster.run("note", tmp_path / "next") not in (victim, other)
        assert is_alive(other)
        (tmp_path / "other").unlink()
        task = wait_until(lambda: Task.objects.filter(func__endswith=".hold").first())
        assert task.result == "released"


def test_worker_killed_with_its_timer_lock_is_replaced(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        victim = cluster.run("die_with_timer_lock", tmp_path / "victim")
        # Twice, for a sentinel that waits for the lock would do so after the first replacement.
        next_victim = cluster.run("die_with_timer_lock", tmp_path / "next_victim")
        assert cluster.run("note", tmp_path / "next") not in (victim, next_victim)


def test_frozen_host_is_shown_until_it_is_given_up_and_then_killed(tmp_path: Path) -> None:
    launch = str(uuid.uuid4())
    with ClusterProcess(workers=1) as cluster:
        client = cluster.broker.connection
        node = cluster.queue.partition("@")[2]
        frozen = cluster.run("freeze", tmp_path / launch)
        wait_until(lambda: present_nodes(client, [node]) == {node: frozenset({launch})})
        assert is_alive(frozen)
        client.set(keys.fenced(launch), 1, ex=60)
        wait_until(lambda: not is_alive(frozen))
        wait_until(lambda: present_nodes(client, [node]) == {node: frozenset()})
        assert cluster.run("note", tmp_path / "next") != frozen
        client.delete(keys.fenced(launch))
    LivenessLock(liveness_folder(), launch).remove()


def test_sentinel_killed_ends_the_command_and_all_workers(tmp_path: Path) -> None:
    with ClusterProcess(workers=2) as cluster:
        cluster.run("hold", tmp_path / "busy")
        processes = cluster.processes()
        assert len(processes) == 5
        os.kill(cluster.stat().sentinel, signal.SIGKILL)
        assert cluster.main.wait(5) == 1
        wait_until(lambda: not any(map(is_alive, processes)), 5)
        cluster.enqueue("note", tmp_path / "left")
        assert cluster.broker.queue_size() == 1


def test_main_process_killed_leaves_no_orphan(tmp_path: Path) -> None:
    with ClusterProcess(workers=2) as cluster:
        cluster.run("hold", tmp_path / "busy")
        processes = cluster.processes()
        assert len(processes) == 5
        cluster.main.kill()
        wait_until(lambda: not any(map(is_alive, processes)), 5)


def test_monitor_killed_lets_later_results_be_recorded(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        killed = cluster.stat().monitor
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: cluster.stat().monitor != killed)
        task_id = cluster.enqueue("note", tmp_path / "task")
        task = wait_until(lambda: Task.objects.filter(id=task_id).first())
        assert (task.success, task.result) == (True, "noted")


def test_monitor_killed_keeps_the_results_that_wait_for_it(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        killed = cluster.stat().monitor
        os.kill(killed, signal.SIGSTOP)
        task_ids = [cluster.enqueue("note", tmp_path / f"task{n}") for n in range(3)]
        wait_until(lambda: noted_pid(tmp_path / "task2"))
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: Task.objects.filter(id__in=task_ids).count() == 3)


def test_pusher_killed_lets_later_tasks_be_taken(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        killed = cluster.stat().pusher
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: cluster.stat().pusher != killed)
        assert cluster.run("note", tmp_path / "task") > 0


def test_models_cluster_runs_each_task_in_a_fresh_process(tmp_path: Path) -> None:
    with ClusterProcess(workers=1) as cluster:
        first = cluster.run("note", tmp_path / "first")
        assert cluster.run("note", tmp_path / "second") != first
