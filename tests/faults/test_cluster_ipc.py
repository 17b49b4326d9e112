"""The flag and the queue that no death can jam, and the tie to the parent."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from django_q.conf import Conf

from inference.cluster.ipc import KernelFlag, KernelQueue
from inference.cluster.parent_death import die_with_parent
from inference.cluster.sentinel import GuardedSentinel
from tests.faults.cluster_process import is_alive, noted_pid
from tests.waiting import wait_until

_FORK = multiprocessing.get_context("fork")


@contextmanager
def forked(target: Callable[..., object], *args: object) -> Iterator[BaseProcess]:
    """``target`` in a forked process, killed when the block is left."""
    process = _FORK.Process(target=target, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _open_descriptors() -> set[str]:
    """Open files and pipes of this process by their names, which the kernel does not reuse.

    Their count would not do: other tests' garbage closes descriptors at any moment.
    """
    gc.collect()
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return names


def test_queue_keeps_order_and_content() -> None:
    queue = KernelQueue()
    assert (queue.empty(), queue.qsize()) == (True, 0)
    queue.put({"name": "first", "args": (1, None)})
    queue.put("second")
    assert (queue.empty(), queue.qsize()) == (False, 1)
    assert queue.get() == {"name": "first", "args": (1, None)}
    assert queue.get() == "second"
    assert queue.empty()


@pytest.mark.parametrize("size_bytes", [30_000, 32_768, 40_000, 5_000_000])
def test_queue_carries_messages_of_any_size(size_bytes: int) -> None:
    queue = KernelQueue()
    descriptors = _open_descriptors()
    queue.put(b"x" * size_bytes)
    assert queue.get() == b"x" * size_bytes
    assert _open_descriptors() <= descriptors


def test_queue_take_from_an_empty_queue_does_not_wait() -> None:
    with pytest.raises(BlockingIOError):
        KernelQueue().take()


def test_queue_survives_readers_killed_while_they_wait(tmp_path: Path) -> None:
    queue = KernelQueue()

    def read() -> None:
        (tmp_path / "ready").write_text(str(os.getpid()))
        queue.get()

    for _ in range(5):
        with forked(read):
            wait_until(lambda: noted_pid(tmp_path / "ready"))
        (tmp_path / "ready").unlink()
    queue.put("still here")
    assert queue.get() == "still here"


def test_queue_survives_a_writer_killed_while_it_writes() -> None:
    queue = KernelQueue()

    def write() -> None:
        while True:
            queue.put(b"x" * 20_000)

    for _ in range(5):
        with forked(write):
            wait_until(lambda: not queue.empty())
    while not queue.empty():
        assert queue.get() == b"x" * 20_000
    queue.put("whole")
    assert queue.get() == "whole"


def test_queue_gives_each_message_to_one_reader() -> None:
    queue, results = KernelQueue(), KernelQueue()

    def echo() -> None:
        while True:
            results.put(queue.get())

    with forked(echo) as first, forked(echo) as second, forked(echo) as third:
        for number in range(300):
            queue.put(number)
        assert sorted(results.get() for _ in range(300)) == list(range(300))
        assert results.empty()
        assert all(reader.is_alive() for reader in (first, second, third))


def test_queue_reader_beaten_to_a_message_waits_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = KernelQueue()
    queue.put("first")
    take, beaten = queue.take, [BlockingIOError()]

    def take_late() -> object:
        if beaten:
            raise beaten.pop()
        return take()

    monkeypatch.setattr(queue, "take", take_late)
    assert queue.get() == "first"


def test_queue_gives_way_to_the_flag() -> None:
    queue, flag = KernelQueue(), KernelFlag()
    queue.put("waiting")
    flag.set()
    assert queue.get(unless=flag) == "STOP"
    assert queue.get() == "waiting"


def test_flag_set_in_one_process_is_seen_in_another() -> None:
    flag = KernelFlag()
    assert not flag.is_set()
    assert not flag.wait(0.01)
    with forked(flag.set):
        assert flag.wait(5)
    assert flag.is_set()


def test_flag_set_many_times_never_blocks() -> None:
    flag = KernelFlag()
    for _ in range(100_000):
        flag.set()
    assert flag.is_set()


@pytest.mark.parametrize("role", ["worker", "monitor", "pusher"])
def test_sentinel_does_not_wait_for_its_next_cycle_to_see_a_death(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conf, "GUARD_CYCLE", 1000)  # more than the test may take
    sentinel = GuardedSentinel.__new__(GuardedSentinel)
    sentinel.stop_event = KernelFlag()
    with (
        forked(signal.pause) as worker,
        forked(signal.pause) as monitor,
        forked(signal.pause) as pusher,
    ):
        sentinel.pool, sentinel.monitor, sentinel.pusher = [worker], monitor, pusher
        {"worker": worker, "monitor": monitor, "pusher": pusher}[role].kill()
        assert not sentinel._wait_for_stop()
        sentinel.stop_event.set()
        assert sentinel._wait_for_stop()


def test_child_of_a_parent_already_dead_kills_itself() -> None:
    with forked(die_with_parent, os.getpid() + 1) as process:
        process.join(5)
        assert process.exitcode == -signal.SIGKILL


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    def child(parent_pid: int) -> None:
        die_with_parent(parent_pid)
        (tmp_path / "child").write_text(str(os.getpid()))
        signal.pause()

    def parent() -> None:
        _FORK.Process(target=child, args=(os.getpid(),)).start()
        signal.pause()

    with forked(parent):
        pid = wait_until(lambda: noted_pid(tmp_path / "child"))
        assert is_alive(pid)
    try:
        wait_until(lambda: not is_alive(pid), 5)
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
