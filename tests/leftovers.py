"""Processes that outlive the test that started them, told by what they inherited."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

_RUN, _BLOCK = "BRIGADE_TEST_RUN", "BRIGADE_TEST_BLOCK"
_GRACE_SECONDS = 5.0


def _processes_with(name: str, value: str) -> list[psutil.Process]:
    """All whose environment has the variable, whoever their parents are by now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is another user's
            if process.environ().get(name) == value:
                found.append(process)
    return found


@contextmanager
def nothing_left() -> Iterator[dict[str, str]]:
    """Give variables for the environment of processes; those that outlive the block are killed."""
    mark = uuid.uuid4().hex
    try:
        yield {_BLOCK: mark}
    finally:
        for process in _processes_with(_BLOCK, mark):
            with suppress(psutil.NoSuchProcess):
                process.kill()


class Leftovers:
    """Processes and files that a test run left behind; make one before the first test."""

    def __init__(self) -> None:
        self._mark = os.environ[_RUN] = uuid.uuid4().hex
        # The watchdogs of the run's own servers.
        self._before = psutil.Process().children(recursive=True)

    def described(self) -> list[str]:
        """A line for each, with the test that started it, after giving them time to end."""
        # Of a process that was only forked /proc shows the environment of this one's start.
        found = {*_processes_with(_RUN, self._mark), *psutil.Process().children(recursive=True)}
        _, alive = psutil.wait_procs(found - {*self._before}, timeout=_GRACE_SECONDS)
        lines = []
        for process in alive:
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                test = process.environ().get("PYTEST_CURRENT_TEST", "an unknown test")
                if "multiprocessing.resource_tracker" not in command:  # ends with this process
                    lines.append(f"{process.pid} of {test}: {command}")
        return lines
