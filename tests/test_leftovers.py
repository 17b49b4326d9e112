"""The check that no test leaves a process behind."""

import subprocess

import psutil
import pytest

from tests import leftovers
from tests.leftovers import Leftovers, nothing_left
from tests.waiting import wait_until


def test_process_left_behind_is_named_with_its_test_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BRIGADE_TEST_RUN", "the mark of this run comes back")
    monkeypatch.setattr(leftovers, "_GRACE_SECONDS", 0.1)
    found = Leftovers()
    with nothing_left() as marks:
        for name, value in marks.items():
            monkeypatch.setenv(name, value)
        orphan = int(subprocess.check_output(["sh", "-c", "sleep 99 >/dev/null & echo $!"]))
        (line,) = found.described()
    assert line.startswith(f"{orphan} of tests/test_leftovers.py::test_process_left_behind")
    assert line.endswith(": sleep 99")
    wait_until(lambda: not psutil.pid_exists(orphan))
