"""Real holders and real servers for the tests of ``inference_site.embedded``."""

import atexit
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import redis

from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.embedded.postgres import PostgresServer
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.valkey import ValkeyServer
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
_HOLDER = """
import sys
from pathlib import Path
from inference_site.embedded.lifecycle import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.read()
"""


@functools.cache
def _made_data() -> Path:
    """An empty Postgres data directory: a copy is far quicker than ``initdb``."""
    parent = Path(tempfile.mkdtemp(prefix="brigade-"))
    parent.chmod(0o755)
    atexit.register(shutil.rmtree, parent)
    with EmbeddedServers(parent, valkey=False):
        pass
    return parent / "postgres"


@contextmanager
def temporary_home(mode: int = 0o755, name: str = "home", empty: bool = False) -> Iterator[Path]:
    """A home with a short path below a directory of ``mode``; no server outlives it.

    Unless ``empty``, it has the data of a Postgres that has run before.
    """
    parent = Path(tempfile.mkdtemp(prefix="brigade-"))
    parent.chmod(mode)
    home = parent / name
    if not empty:
        home.mkdir()
        subprocess.run(["cp", "-a", str(_made_data()), str(home / "postgres")], check=True)
    try:
        yield home
        wait_until(lambda: not running_pids(home), 20)
    finally:
        for pid in running_pids(home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(parent)


@contextmanager
def holder(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the servers of ``home``."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holding\n"
        yield process
    finally:
        process.communicate()  # the end of its input ends it


def running_pids(home: Path) -> list[int]:
    """Every process that works in the data directories of ``home``, and their watchdogs."""
    servers: list[EmbeddedServer] = [PostgresServer(home), ValkeyServer(home)]
    watchdogs = [pid for server in servers for pid in watchdog_pids(home, server.name)]
    return [pid for server in servers for pid in server.leftovers()] + watchdogs


def watchdog_pids(home: Path, name: str) -> list[int]:
    """Return the watchdogs of one server, found by their command line."""
    wanted = ["inference_site.embedded.watchdog", name, str(home.resolve())]
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[2:5] == wanted:
            found.append(int(entry.name))
    return found


def postmaster_pid(home: Path) -> int:
    """The process number that Postgres wrote down."""
    return int((home / "postgres" / "postmaster.pid").read_text().split()[0])


def kill(pid: int) -> None:
    """Kill -9 a process and wait until the kernel has removed it."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}/cwd").is_dir())


def remember(servers: EmbeddedServers, word: str) -> None:
    """Write ``word`` to both servers."""
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        client.rpush("words", word)


def remembered(servers: EmbeddedServers) -> tuple[list[str], list[str]]:
    """Return the values written to both servers, in order."""
    with psycopg.connect(servers.database_url) as connection:
        rows = [row[0] for row in connection.execute("SELECT word FROM words ORDER BY ctid")]
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        return rows, list(client.lrange("words", 0, -1))
