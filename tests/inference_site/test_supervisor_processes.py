"""The supervisor as a real process with real children and real signals."""

import os
import signal
import time
from pathlib import Path

import pytest

from inference_site.embedded.valkey import ValkeyServer
from inference_site.management.commands.up import service_processes
from tests.inference_site.embedded_processes import kill, running_pids
from tests.inference_site.supervisor_processes import POLITE, STUBBORN, alive, supervisor
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_everything_web_first(tmp_path: Path, number: signal.Signals) -> None:
    with supervisor(tmp_path, models=POLITE, web=POLITE, jobs=POLITE) as running:
        pids = running.pids(3)
        running.signal(number)
        status, lines = running.end()
        assert status == 0
        said = [line for line in lines if "bye" in line]
        assert said[0] == "web    │ bye"
        assert sorted(said[1:]) == ["jobs   │ bye", "models │ bye"]
        assert not any(alive(pid) for pid in pids)


def test_lines_are_shown_with_names_and_logged_without(tmp_path: Path) -> None:
    with supervisor(tmp_path, web=POLITE) as running:
        (pid,) = running.pids(1)
        assert (tmp_path / "logs" / "web.log").read_text() == f"pid {pid}\n"


def test_endless_and_undecodable_lines_are_shown(tmp_path: Path) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'\xff' * 200000 + b'\nlast'); sys.stdout.flush()"
    with supervisor(tmp_path, web=code) as running:
        lines = [running.line()]
        while "last" not in lines[-1]:
            lines.append(running.line())
        assert sum(line.count("\N{REPLACEMENT CHARACTER}") for line in lines) == 200_000
        assert lines[-1] == "web │ last"


def test_killed_child_is_started_again_and_its_group_is_gone(tmp_path: Path) -> None:
    with supervisor(tmp_path, web=STUBBORN, jobs=POLITE) as running:
        pids = running.pids(3)
        first, second = sorted(pid for pid, name in pids.items() if name == "web")
        (jobs,) = (pid for pid, name in pids.items() if name == "jobs")
        os.kill(first, signal.SIGKILL)
        running.line_with("web was killed by signal 9; it is started again in 1 s")
        again = running.pids(2)
        assert set(again.values()) == {"web"}
        assert not alive(first)
        assert not alive(second)
        assert alive(jobs)


def test_child_that_cannot_be_started_is_reported(tmp_path: Path) -> None:
    with supervisor(tmp_path, web="raise SystemExit(3)") as running:
        assert "web ended with status 3; it is started again in 1 s" in running.line()
        assert "web ended with status 3; it is started again in 2 s" in running.line()


def test_stubborn_children_are_killed_with_their_groups_after_the_deadline(tmp_path: Path) -> None:
    with supervisor(tmp_path, stop_seconds=0.5, web=STUBBORN, jobs=POLITE) as running:
        pids = running.pids(3)
        running.signal(signal.SIGTERM)
        status, lines = running.end()
        assert status == 0
        assert "web did not stop in time and is killed" in lines
        assert any("bye" in line for line in lines)
        assert not any(alive(pid) for pid in pids)


def test_second_signal_kills_at_once(tmp_path: Path) -> None:
    with supervisor(tmp_path, stop_seconds=60, web=STUBBORN, jobs=STUBBORN) as running:
        pids = running.pids(4)
        running.signal(signal.SIGINT)
        running.line_with("Ctrl-C again")
        began = time.monotonic()
        running.signal(signal.SIGINT)
        status, _ = running.end()
        assert status == 130
        assert time.monotonic() - began < 5
        assert not any(alive(pid) for pid in pids)


def test_stop_during_a_pause_before_a_restart_is_prompt(tmp_path: Path) -> None:
    with supervisor(tmp_path, web="raise SystemExit(3)", jobs=POLITE) as running:
        running.line_with("started again in 4 s")
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.end()[0] == 0
        assert time.monotonic() - began < 3


def test_killed_supervisor_leaves_no_child(tmp_path: Path) -> None:
    with supervisor(tmp_path, web=POLITE, jobs=POLITE, models=POLITE) as running:
        pids = running.pids(3)
        running.process.kill()
        running.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids))


def test_restart_of_a_dead_server_is_reported(tmp_path: Path) -> None:
    with supervisor(tmp_path, valkey=True, jobs=POLITE) as running:
        running.pids(1)
        kill(ValkeyServer(tmp_path).leftovers()[0])
        running.line_with("valkey had died and was started again")
        running.signal(signal.SIGTERM)
        assert running.end()[0] == 0
    assert running_pids(tmp_path) == []


def test_service_is_a_web_process_two_clusters_and_a_controller() -> None:
    specs = {spec.name: spec for spec in service_processes("::1", 9000, Path("/srv/home"))}
    assert list(specs) == ["web", "models", "jobs", "controller"]
    words = specs["web"].command
    assert words[words.index("--host") + 1] == "::1"
    assert words[words.index("--port") + 1] == "9000"
    assert [spec.name for spec in specs.values() if spec.stops_first] == ["web"]
    assert all(spec.environment["BRIGADE_HOME"] == "/srv/home" for spec in specs.values())
    assert specs["models"].environment["Q_CLUSTER_NAME"] == "models"
