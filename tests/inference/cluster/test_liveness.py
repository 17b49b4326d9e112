"""A host's lock shows at once that the host died."""

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from inference.cluster.liveness import LivenessLock, running_launches


def test_a_lock_that_is_held_is_not_abandoned(tmp_path: Path) -> None:
    lock = LivenessLock(tmp_path / "run", "a")
    lock.hold()
    assert not LivenessLock(tmp_path / "run", "a").is_abandoned()
    with pytest.raises(BlockingIOError):
        LivenessLock(tmp_path / "run", "a").hold()


def test_a_lock_left_behind_is_abandoned_until_removed(tmp_path: Path) -> None:
    (tmp_path / "host-a.lock").touch()
    lock = LivenessLock(tmp_path, "a")
    assert lock.is_abandoned()
    assert lock.is_abandoned()  # looking does not hold it
    lock.remove()
    lock.remove()
    assert not lock.is_abandoned()


def test_two_checks_of_a_lock_at_once_do_not_count_as_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host-a.lock").touch()
    lock, answers = LivenessLock(tmp_path, "a"), []
    close = os.close

    def look_too(descriptor: int) -> None:
        monkeypatch.setattr(os, "close", close)
        answers.append(lock.is_abandoned())
        close(descriptor)

    monkeypatch.setattr(os, "close", look_too)
    assert lock.is_abandoned()
    assert answers == [True]


def test_a_host_takes_its_lock_during_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "host-a.lock"
    looking = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("inference.cluster.liveness.time.sleep", lambda _: os.close(looking))
    lock = LivenessLock(tmp_path, "a")
    lock.hold()
    assert lock.is_held()


def test_a_host_without_a_lock_file_is_not_abandoned(tmp_path: Path) -> None:
    assert not LivenessLock(tmp_path, "elsewhere").is_abandoned()


def test_running_launches_have_a_lock_that_a_process_holds(tmp_path: Path) -> None:
    LivenessLock(tmp_path, "mine").hold()
    (tmp_path / "host-mine.log").touch()
    (tmp_path / "host-beginning.lock").touch()  # not yet held
    owner = (tmp_path / "host-mine.lock").read_text()
    (tmp_path / "host-gone.lock").write_text(owner)  # its number was given again
    assert running_launches(tmp_path, [os.getpid()]) == {"mine": os.getpid()}
    assert running_launches(tmp_path, [os.getpid() + 1]) == {}
    assert running_launches(tmp_path / "absent", [os.getpid()]) == {}


def test_a_process_of_another_node_with_the_same_id_is_not_ours(
    tmp_path: Path, settings: Any
) -> None:
    settings.NODE_NAME = "other"
    LivenessLock(tmp_path, "theirs").hold()
    settings.NODE_NAME = "this"
    assert running_launches(tmp_path, [os.getpid()]) == {}
