"""The whole service as real processes in a home of its own, and ways to look into it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
import redis

from inference.queue import keys
from inference_site.embedded.urls import embedded_urls
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
CHAT_VERSION = "smollm2-135m@q4_1"


class LiveService:
    """``manage.py up`` on a free port."""

    def __init__(self, models_dir: Path, **environment: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="brigade-live-"))
        self.port = _free_port()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DATABASE_URL", "REDIS_URL", "BRIGADE_HOME", "DJANGO_SETTINGS_MODULE")
        }
        self.environment = {
            **inherited,
            "BRIGADE_HOME": str(self.home),
            "INFERENCE_PORT": str(self.port),
            "INFERENCE_MODELS_DIR": str(models_dir),
            **environment,
        }
        self.command = [sys.executable, "manage.py", "up"]
        self.output_path = self.home / "up.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 120) -> None:
        """Start and wait until the model answers."""
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._ready_or_dead, timeout_seconds)
        assert self.process.poll() is None, self.output_path.read_text()

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    @contextmanager
    def running(self, timeout_seconds: float = 120) -> Iterator[Self]:
        """Start; at the end Ctrl-C must stop it, and nothing is left of it in any case."""
        try:
            self.start(timeout_seconds)
            yield self
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self.remove()

    def remove(self) -> None:
        """Kill what still runs, and delete the home."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def second_web(self, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """Another web process of the service, and its address."""
        port = _free_port()
        process = subprocess.Popen(
            [sys.executable, "manage.py", "web", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with suppress(OSError), urllib.request.urlopen(url + "/health", timeout=10):
                return True
            return False

        try:
            wait_until(answers, 60)
            yield process, url
        finally:
            process.kill()
            process.wait(30)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def first_run(self) -> dict[str, str]:
        """The credentials that the first run created."""
        content: dict[str, str] = json.loads((self.home / "first_run.json").read_text())
        return content

    @property
    def api_key(self) -> str:
        return self.first_run["api_key"]

    @property
    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(embedded_urls(self.home)[1])

    def query(self, sql: str) -> list[Any]:
        """Rows from the service's own database."""
        with psycopg.connect(embedded_urls(self.home)[0]) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        """Change the service's own database."""
        with psycopg.connect(embedded_urls(self.home)[0]) as connection:
            connection.execute(sql)

    def health(self, path: str = "/health/ready") -> tuple[int, dict[str, Any]]:
        """Status and body; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, {}

    def _ready_or_dead(self) -> bool:
        return self.is_ready() or (self.process is not None and self.process.poll() is not None)

    def is_ready(self) -> bool:
        return self.health()[0] == 200

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        wait_until(self.is_ready, timeout_seconds)

    def running_sequences(self) -> int:
        """Generations that the hosts run or hold, by their heartbeats."""
        client = self.redis
        names = client.zrange(keys.HOSTS, 0, -1)
        figures = [client.hmget(keys.host(name.decode()), "running", "waiting") for name in names]
        return sum(int(value or 0) for pair in figures for value in pair)

    def host_process(self, version_key: str = CHAT_VERSION) -> int:
        """Process id of a version's host."""
        client = self.redis
        (launch,) = client.zrange(keys.ready(version_key), -1, -1)
        return int(client.hget(keys.host(launch.decode()), "process_id") or 0)

    def processes(self, *words: str) -> list[psutil.Process]:
        """Processes of this home whose command line has all of ``words``."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
                home = process.environ().get("BRIGADE_HOME", "")
            except psutil.Error:
                continue
            if (home == str(self.home) or str(self.home) in line) and all(
                word in line for word in words
            ):
                found.append(process)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
