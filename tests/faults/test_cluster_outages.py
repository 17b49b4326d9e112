"""Redis and Postgres killed or hung under a running cluster; the servers are this module's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.embedded.postgres import PostgresServer
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.valkey import ValkeyServer
from tests.faults.cluster_process import ROOT, ClusterProcess, is_alive, noted_pid
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(tmp_path_factory.mktemp("servers")) as servers:
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--skip-checks", "-v0", "django_q"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": servers.database_url},
            check=True,
        )
        yield servers


@pytest.fixture
def cluster(servers: EmbeddedServers, tmp_path: Path) -> Iterator[ClusterProcess]:
    with ClusterProcess(
        workers=2,
        redis_url=servers.redis_url,
        database_url=servers.database_url,
        log_path=tmp_path / "log",
    ) as cluster:
        yield cluster


def kill(servers: EmbeddedServers, server: EmbeddedServer) -> None:
    """Kill every process of ``server`` and wait until it has been started again."""
    for pid in server.leftovers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.name in servers.ensure())


def is_recorded(servers: EmbeddedServers, task_id: str) -> bool:
    """Whether the database knows that the task succeeded."""
    with psycopg.connect(servers.database_url) as connection:
        found = connection.execute(
            "SELECT 1 FROM django_q_task WHERE id = %s AND success", [task_id]
        ).fetchone()
    return found is not None


def test_redis_killed_leaves_the_cluster_taking_tasks(
    servers: EmbeddedServers, cluster: ClusterProcess, tmp_path: Path
) -> None:
    busy = cluster.run("hold", tmp_path / "busy")
    pusher = cluster.stat().pusher
    kill(servers, ValkeyServer(servers.home))
    assert cluster.run("note", tmp_path / "task") > 0
    assert is_alive(busy)
    assert is_alive(pusher)


def test_redis_hung_leaves_the_cluster_taking_tasks(
    servers: EmbeddedServers, cluster: ClusterProcess, tmp_path: Path
) -> None:
    (pid,) = ValkeyServer(servers.home).leftovers()
    pusher = cluster.stat().pusher
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "Redis is away" in (tmp_path / "log").read_text(), 15)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert cluster.run("note", tmp_path / "task") > 0
    assert is_alive(pusher)
    assert "Redis is back" in (tmp_path / "log").read_text()


def test_cluster_stops_in_time_while_redis_hangs(
    servers: EmbeddedServers, cluster: ClusterProcess, tmp_path: Path
) -> None:
    (pid,) = ValkeyServer(servers.home).leftovers()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "Redis is away" in (tmp_path / "log").read_text(), 15)
        processes = cluster.processes()
        cluster.main.terminate()
        assert cluster.main.wait(6) == 0
        wait_until(lambda: not any(map(is_alive, processes)), 2)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_postgres_killed_lets_later_results_be_recorded(
    servers: EmbeddedServers, cluster: ClusterProcess, tmp_path: Path
) -> None:
    before = cluster.enqueue("note", tmp_path / "before")
    wait_until(lambda: is_recorded(servers, before))
    busy = cluster.run("hold", tmp_path / "busy")
    monitor = cluster.stat().monitor
    kill(servers, PostgresServer(servers.home))
    after = cluster.enqueue("note", tmp_path / "after")
    wait_until(lambda: is_recorded(servers, after))
    assert is_alive(busy)
    assert is_alive(monitor)


def test_jobs_cluster_runs_its_tasks(servers: EmbeddedServers, tmp_path: Path) -> None:
    # With another cluster's name in the environment, so that the command has to start itself again.
    with ClusterProcess(
        name="jobs",
        redis_url=servers.redis_url,
        database_url=servers.database_url,
        environment={"Q_CLUSTER_NAME": "models"},
    ) as cluster:
        task_ids = [cluster.enqueue("note", tmp_path / f"task{n}") for n in range(20)]
        wait_until(lambda: all(is_recorded(servers, task_id) for task_id in task_ids))
        pids = {noted_pid(tmp_path / f"task{n}") for n in range(20)}
        assert pids == {cluster.worker()}
