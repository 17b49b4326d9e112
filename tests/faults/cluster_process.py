"""A real ``manage.py cluster`` under test, and a view of its processes."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.db import connection
from django_q.brokers.redis_broker import Redis as RedisBroker
from django_q.status import Stat
from django_q.tasks import async_task

from inference.cluster.names import cluster_queue_name
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
TASKS = "tests.faults.cluster_tasks"


def is_alive(pid: int) -> bool:
    """Whether process ``pid`` runs; a zombie does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in "ZX"


def noted_pid(path: Path) -> int:
    """The process id that a task left in ``path``; 0 while there is none."""
    with contextlib.suppress(FileNotFoundError):
        return int(path.read_text() or 0)
    return 0


class ClusterProcess:
    """A cluster in a process group of its own; killed as a whole when the block is left.

    The models cluster gets a node name, and so a queue, of its own: clusters do not meet.
    """

    def __init__(
        self,
        name: str = "models",
        workers: int = 1,
        stop_seconds: float = 4.0,
        redis_url: str = "",
        database_url: str = "",
        log_path: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Describe the cluster; without URLs it uses the test run's Redis and test database."""
        self.name = name
        node_name = f"test-{uuid.uuid4().hex}"
        self.queue = cluster_queue_name(name, node_name)
        self._command = [sys.executable, "manage.py", "cluster", name]
        self._command += ["--stop-seconds", str(stop_seconds)]
        self._log_path = log_path
        self._redis_url = redis_url or settings.REDIS_URL
        self._environment = {
            **os.environ,
            "SECRET_KEY": settings.SECRET_KEY,
            "REDIS_URL": self._redis_url,
            "DATABASE_URL": database_url or _test_database_url(),
            "NODE_NAME": node_name,
            "INFERENCE_MAX_REPLICAS": str(workers),
            "INFERENCE_JOB_WORKERS": str(workers),
            "Q_CLUSTER_NAME": name,
            **(environment or {}),
        }
        self.broker = RedisBroker(self.queue)
        self.broker.connection = redis.Redis.from_url(self._redis_url)

    def __enter__(self) -> Self:
        with self._log_path.open("wb") if self._log_path else contextlib.nullcontext() as log:
            self.main = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stderr=log, start_new_session=True
            )
        try:
            wait_until(self.is_ready, timeout_seconds=30)
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clean_up()

    def stat(self) -> Any:
        """django-q's report of this cluster; None before its start and after its end."""
        return next((s for s in Stat.get_all(self.broker) if s.pid == self.main.pid), None)

    def is_ready(self) -> bool:
        """Whether all processes run; raises AssertionError when the command has ended."""
        assert self.main.poll() is None, f"the command ended with {self.main.returncode}"
        return self.stat() is not None and bool(self.stat().pusher)

    def processes(self) -> list[int]:
        """The sentinel and everything below it, from /proc."""
        return list(_descendants(self.main.pid))

    def worker(self) -> int:
        """The only worker, once it is known and idle in the queue."""
        (pid,) = self.stat().workers
        return int(pid)

    def enqueue(self, task: str, path: Path) -> str:
        """Queue a function of ``cluster_tasks`` without a time limit; the task's id."""
        task_id: str = async_task(f"{TASKS}.{task}", str(path), broker=self.broker, timeout=-1)
        return task_id

    def run(self, task: str, path: Path, timeout_seconds: float = 10.0) -> int:
        """Queue a task and wait until it runs; the worker's process id."""
        self.enqueue(task, path)
        return wait_until(lambda: noted_pid(path), timeout_seconds)

    def kill_worker(self) -> int:
        """Kill the only worker; returns the process id of its replacement."""
        killed = self.worker()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self.worker() != killed)
        return self.worker()

    def _clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.main.pid, signal.SIGKILL)
        self.main.wait()
        self.broker.delete_queue()
        self.broker.connection.close()


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _test_database_url() -> str:
    name = connection.settings_dict["NAME"]
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()
