"""A user who starts the service twice."""

import subprocess
from pathlib import Path

import pytest

from tests.live.service import ROOT, LiveService
from tests.waiting import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def _start(service: LiveService, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            service.command,
            cwd=ROOT,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def test_of_two_first_starts_at_once_one_serves_and_the_other_says_so(
    smollm2_path: Path, minilm_path: Path
) -> None:
    service = LiveService(smollm2_path.parent)
    logs = [service.home / f"start-{number}.log" for number in range(2)]
    starts = [_start(service, log) for log in logs]
    try:
        wait_until(lambda: any(start.poll() is not None for start in starts), 60)
        loser, winner = sorted(range(2), key=lambda number: starts[number].poll() is None)
        said = logs[loser].read_text()
        assert (starts[loser].returncode, starts[winner].poll()) == (1, None), said
        assert f"{service.home} is already being run by" in said
        assert "Traceback" not in said
        service.process = starts[winner]
        service.wait_ready(200)
        wait_until(lambda: service.first_run["api_key"] in logs[winner].read_text(), 30)
        assert service.stop() == 0
    finally:
        service.remove()
