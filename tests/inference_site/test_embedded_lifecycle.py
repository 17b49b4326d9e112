"""The embedded servers as real processes: starts, stops, deaths and their data."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.embedded.valkey import ValkeyServer
from tests.inference_site.embedded_processes import (
    holder,
    kill,
    postmaster_pid,
    remember,
    remembered,
    running_pids,
    temporary_home,
    watchdog_pids,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


def test_later_starts_find_the_data_of_the_first() -> None:
    with temporary_home(empty=True) as home:
        for word in ("one", "two"):
            with EmbeddedServers(home) as servers:
                remember(servers, word)
            assert running_pids(home) == []
        with EmbeddedServers(home) as servers:
            assert remembered(servers) == (["one", "two"], ["one", "two"])


def test_start_and_stop_may_be_repeated(home: Path) -> None:
    servers = EmbeddedServers(home)
    servers.start()
    servers.start()
    servers.stop()
    servers.stop()
    assert running_pids(home) == []


def test_only_the_servers_asked_for_run(home: Path) -> None:
    with EmbeddedServers(home, postgres=False):
        assert watchdog_pids(home, "valkey")
        assert watchdog_pids(home, "postgres") == []
        assert not (home / "postgres" / "postmaster.pid").exists()


def test_servers_stop_after_the_last_holder(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        postmaster = 0
        with holder(home):
            postmaster = postmaster_pid(home)
        assert postmaster_pid(home) == postmaster
        remember(servers, "still here")
    assert running_pids(home) == []


def test_killed_holders_leave_no_server(home: Path) -> None:
    with holder(home) as first, holder(home) as second:
        first.send_signal(signal.SIGKILL)
        first.wait()
        remember(EmbeddedServers(home), "under the second holder")
        assert watchdog_pids(home, "postgres")
        second.send_signal(signal.SIGKILL)
        second.wait()
        wait_until(lambda: not running_pids(home))


def test_start_during_a_stop_waits_and_starts_again(home: Path) -> None:
    with holder(home) as other:
        other.kill()
        other.wait()
        with EmbeddedServers(home) as servers:
            remember(servers, "new")
            assert running_pids(home)


def test_killed_postmaster_comes_back_while_its_backends_live(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        remember(servers, "kept")
        with closing(psycopg.connect(servers.database_url, autocommit=True)) as busy:
            # Stays in one call of C code, so it does not look whether its postmaster lives.
            busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000000)")
            kill(postmaster_pid(home))
            assert servers.ensure() == ["postgres"]
            assert remembered(servers) == (["kept"], ["kept"])
        assert servers.ensure() == []


def test_killed_valkey_comes_back_with_its_data(home: Path) -> None:
    with EmbeddedServers(home) as servers:
        remember(servers, "kept")
        kill(ValkeyServer(home).leftovers()[0])
        assert servers.ensure() == ["valkey"]
        assert remembered(servers) == (["kept"], ["kept"])


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_killed_watchdog_is_replaced(home: Path, name: str) -> None:
    with EmbeddedServers(home) as servers:
        remember(servers, "kept")
        kill(watchdog_pids(home, name)[0])
        # Its server is told to stop by the kernel, and may answer for a moment yet.
        assert wait_until(servers.ensure) == [name]
        assert remembered(servers) == (["kept"], ["kept"])
        assert len(watchdog_pids(home, name)) == 1


def restarted(servers: EmbeddedServers) -> list[str]:
    """Return the servers that were started again; retry while one dies, as ``up`` does."""
    try:
        return servers.ensure()
    except EmbeddedServerError:
        return []


def test_servers_that_were_started_again_or_have_no_watchdog_need_a_check(home: Path) -> None:
    with EmbeddedServers(home, postgres=False) as servers:
        assert not servers.need_check()
        kill(ValkeyServer(home).leftovers()[0])
        wait_until(servers.need_check)
        assert wait_until(lambda: restarted(servers)) == ["valkey"]
        assert not servers.need_check()
        kill(watchdog_pids(home, "valkey")[0])
        wait_until(servers.need_check)
        assert wait_until(lambda: restarted(servers)) == ["valkey"]
        assert not servers.need_check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_a_watchdog_stops_its_server_though_it_is_held(
    home: Path, number: signal.Signals
) -> None:
    with EmbeddedServers(home, postgres=False) as servers:
        os.kill(watchdog_pids(home, "valkey")[0], number)
        wait_until(lambda: not running_pids(home), 5)
        assert servers.ensure() == ["valkey"]


def test_lock_files_of_a_dead_postmaster_do_not_stop_the_start(home: Path) -> None:
    with EmbeddedServers(home):
        owner = Path(f"/proc/{postmaster_pid(home)}").stat().st_uid
    # The number has gone to a living process of the same account, as it does in containers.
    with subprocess.Popen(["sleep", "100"], user=owner) as living:
        try:
            text = f"{living.pid}\n{home}/postgres\n1\n5432\n{home}/sockets\n\n"
            for path in (home / "postgres/postmaster.pid", home / "sockets/.s.PGSQL.5432.lock"):
                path.write_text(text)
                os.chown(path, owner, -1)
            with EmbeddedServers(home) as servers:
                remember(servers, "started")
        finally:
            living.kill()


def test_long_path_puts_the_sockets_into_a_short_directory() -> None:
    with temporary_home(name="x" * 120) as home:
        with EmbeddedServers(home) as servers:
            remember(servers, "reached")
            sockets = Path(servers.redis_url.removeprefix("unix://").partition("?")[0]).parent
            assert sockets.stat().st_mode & 0o777 == 0o700
        assert not sockets.parent.exists()
