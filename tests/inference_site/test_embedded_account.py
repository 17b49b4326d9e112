"""The account of the embedded servers, with and without root, in real processes."""

import os
import pwd
import site
import subprocess
import sys
from pathlib import Path

import pytest

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.account import give_directory, service_account
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.embedded.valkey import ValkeyServer
from tests.inference_site.embedded_processes import (
    ROOT,
    kill,
    postmaster_pid,
    remember,
    remembered,
    running_pids,
    temporary_home,
    watchdog_pids,
)
from tests.waiting import wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")


def _capabilities(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


def _interpreter_for(user: pwd.struct_passwd) -> str:
    """A Python that ``user`` may run; the one of the tests may be below root's own directory."""
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([path, "-c", ""], user=user.pw_uid, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("no interpreter is within that user's reach")


def test_a_plain_user_needs_no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert service_account(tmp_path / "postgres", Path("/bin/true")) is None


@needs_root
def test_root_runs_the_servers_as_another_account_without_rights() -> None:
    with temporary_home(empty=True) as home, EmbeddedServers(home) as servers:
        remember(servers, "reached")
        for pid in (postmaster_pid(home), ValkeyServer(home).leftovers()[0]):
            assert Path(f"/proc/{pid}").stat().st_uid != 0
            assert _capabilities(pid) == 0


@needs_root
def test_home_below_a_closed_directory_is_used_and_stays_closed() -> None:
    with temporary_home(mode=0o700, empty=True) as home:
        with EmbeddedServers(home) as servers:
            remember(servers, "kept")
            assert home.parent.stat().st_mode & 0o777 == 0o700
            assert home.parent.stat().st_uid == 0
            for pid in (postmaster_pid(home), ValkeyServer(home).leftovers()[0]):
                assert Path(f"/proc/{pid}").stat().st_uid != 0
                assert _capabilities(pid) == 1 << 2  # CAP_DAC_READ_SEARCH alone
        with EmbeddedServers(home) as servers:
            assert remembered(servers) == (["kept"], ["kept"])


@needs_root
def test_servers_below_a_closed_directory_die_with_their_watchdog() -> None:
    with temporary_home(mode=0o700) as home, EmbeddedServers(home):
        for name in ("postgres", "valkey"):
            kill(watchdog_pids(home, name)[0])
        wait_until(lambda: not running_pids(home))


@needs_root
def test_account_of_the_data_stays_when_another_would_be_chosen(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir()
    tmp_path.chmod(0o755)
    os.chown(data, pwd.getpwnam("daemon").pw_uid, -1)
    account = service_account(data, Path("/bin/true"))
    assert account is not None
    assert account.name == "daemon"


@needs_root
def test_data_of_an_unknown_user_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    data.mkdir()
    os.chown(data, 54321, -1)
    with pytest.raises(EmbeddedServerError, match=r"user 54321.*chown"):
        service_account(data, Path("/bin/true"))


@needs_root
def test_a_plain_user_runs_the_servers_as_itself() -> None:
    user = pwd.getpwnam("nobody")
    interpreter = _interpreter_for(user)
    packages = os.pathsep.join([str(ROOT), *site.getsitepackages()])
    with temporary_home(empty=True) as home:
        os.chown(home.parent, user.pw_uid, user.pw_gid)
        done = subprocess.run(
            [interpreter, "-m", "inference_site.embedded", "--home", str(home), "--",
             "stat", "-c", "%U", str(home / "postgres"), str(home / "valkey")],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            cwd="/",
            env={**os.environ, "PYTHONPATH": packages, "DATABASE_URL": "", "REDIS_URL": ""},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.stdout.split() == ["nobody", "nobody"]


def test_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sockets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedServerError, match="is a link"):
        give_directory(tmp_path / "sockets", None)


@needs_root
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockets").mkdir()
    os.chown(tmp_path / "sockets", 54321, -1)
    with pytest.raises(EmbeddedServerError, match="belongs to user 54321"):
        give_directory(tmp_path / "sockets", None)
