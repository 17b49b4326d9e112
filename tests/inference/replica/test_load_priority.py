"""A load runs where others leave a core, and gets a share of its own in the end."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from inference.replica import load_priority
from inference.replica.load_priority import (
    IDLE_ONLY_SECONDS,
    LASTING_NICENESS,
    SHARE_NICENESS,
    LoadPriority,
    can_raise_priority,
)

privileged = pytest.mark.skipif(not can_raise_priority(), reason="needs CAP_SYS_NICE")

TRIAL = """
import os, resource
from inference.replica.load_priority import can_raise_priority
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
print(can_raise_priority())
"""


@contextmanager
def loading(priority: LoadPriority) -> Iterator[int]:
    """A thread that loads on idle cores; its id."""
    lowered, done = threading.Event(), threading.Event()
    ids: list[int] = []
    policies: list[int] = []

    def load() -> None:
        priority.lower()
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        with priority.idle_only():
            ids.append(threading.get_native_id())
            lowered.set()
            done.wait(10)
        policies.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=load)
    thread.start()
    assert lowered.wait(10)
    try:
        yield ids[0]
    finally:
        done.set()
        thread.join()
    assert policies == [os.SCHED_OTHER]


@privileged
def test_a_load_runs_on_idle_cores_only_for_a_while() -> None:
    priority = LoadPriority()
    with loading(priority) as thread:
        priority.review(IDLE_ONLY_SECONDS - 0.1)
        assert os.sched_getscheduler(thread) == os.SCHED_IDLE
        priority.review(IDLE_ONLY_SECONDS)
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, thread) == SHARE_NICENESS
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@privileged
def test_a_load_that_took_long_gets_a_share() -> None:
    priority = LoadPriority()
    priority.review(IDLE_ONLY_SECONDS)
    with loading(priority) as thread:
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER


@privileged
def test_threads_that_a_load_leaves_behind_are_as_those_of_the_process() -> None:
    priority = LoadPriority()
    helpers: list[threading.Thread] = []
    done = threading.Event()

    def load() -> None:
        priority.lower()
        with priority.idle_only():
            helpers.append(threading.Thread(target=done.wait, args=(10,)))
            helpers[0].start()

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    helper = helpers[0].native_id
    assert helper is not None
    before = os.sched_getscheduler(helper), os.getpriority(os.PRIO_PROCESS, helper)
    priority.restore()
    after = os.sched_getscheduler(helper), os.getpriority(os.PRIO_PROCESS, helper)
    done.set()
    helpers[0].join()
    assert before == (os.SCHED_IDLE, SHARE_NICENESS)
    assert after == (os.SCHED_OTHER, 0)


def test_a_load_whose_priority_could_not_be_raised_again_keeps_a_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load_priority, "can_raise_priority", lambda: False)
    priority = LoadPriority()
    with loading(priority) as thread:
        priority.review(IDLE_ONLY_SECONDS)
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, thread) == LASTING_NICENESS
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


@privileged
def test_a_load_that_has_ended_is_not_looked_for() -> None:
    priority = LoadPriority()
    with loading(priority):
        pass
    priority.review(IDLE_ONLY_SECONDS)


def test_raising_a_priority_is_a_right_that_not_everybody_has() -> None:
    tried = subprocess.run(
        [sys.executable, "-c", TRIAL], capture_output=True, text=True, check=True
    )
    assert tried.stdout.strip() == "False"


def test_trying_leaves_this_thread_as_it_was() -> None:
    can_raise_priority()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
