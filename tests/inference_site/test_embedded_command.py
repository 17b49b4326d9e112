"""``python -m inference_site.embedded -- COMMAND`` as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference_site.embedded_processes import (
    ROOT,
    running_pids,
    temporary_home,
    watchdog_pids,
)
from tests.leftovers import nothing_left


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture(autouse=True)
def end_commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands that still run when the test ends are killed."""
    with nothing_left() as marks:
        for name, value in marks.items():
            monkeypatch.setenv(name, value)
        yield


def _start(home: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DATABASE_URL": "", "REDIS_URL": "", **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "inference_site.embedded", "--home", str(home), *command],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_command_finds_the_servers_and_gives_its_status(home: Path) -> None:
    code = (
        "import os, psycopg, redis\n"
        "with psycopg.connect(os.environ['DATABASE_URL']) as c: print(c.info.dbname)\n"
        "print(redis.Redis.from_url(os.environ['REDIS_URL']).ping())\n"
        "print(os.environ['BRIGADE_HOME'])\n"
        "raise SystemExit(7)"
    )
    process = _start(home, "--", sys.executable, "-c", code)
    out, error = process.communicate()
    assert (out.split(), error) == (["brigade", "True", str(home)], "")
    assert process.returncode == 7
    assert running_pids(home) == []


def test_given_urls_are_kept(home: Path) -> None:
    line = 'echo "$DATABASE_URL"; ls -A "$BRIGADE_HOME/sockets"'
    process = _start(home, "--", "sh", "-c", line, DATABASE_URL="postgresql://theirs/db")
    out, _ = process.communicate()
    assert out.split() == ["postgresql://theirs/db", "valkey.sock"]


def test_terminate_is_passed_on_and_the_servers_stop(home: Path) -> None:
    process = _start(home, "--", "sh", "-c", "echo up; exec sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert watchdog_pids(home, "postgres")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert running_pids(home) == []


def test_missing_command_is_reported(home: Path) -> None:
    process = _start(home, "--", "no-such-command")
    _, error = process.communicate()
    assert process.returncode == 127
    assert "cannot run no-such-command" in error


def test_no_command_is_a_usage_error(tmp_path: Path) -> None:
    process = _start(tmp_path / "home")
    _, error = process.communicate()
    assert process.returncode == 2
    assert "after --" in error
    assert list(tmp_path.iterdir()) == []
