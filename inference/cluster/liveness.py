"""Notice at once that a host of this machine died: the kernel drops its file lock."""

import fcntl
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from django.conf import settings

# A check of the lock by another process holds it at most this long.
PROBE_SECONDS = 0.2


class LivenessLock:
    """A lock file named after the launch, held by the host and containing its process and node."""

    def __init__(self, folder: Path, launch_id: str) -> None:
        self._path = folder / f"host-{launch_id}.lock"

    def hold(self) -> None:
        """Take the lock until the process ends; raise ``BlockingIOError`` when it is held."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + PROBE_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # perhaps a process that only checks
                if time.monotonic() >= deadline:
                    raise
                time.sleep(PROBE_SECONDS / 20)
        os.write(self._descriptor, _owner(os.getpid()).encode())

    def is_abandoned(self) -> bool:
        """Whether the file exists and no process holds it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # Shared, or two processes that check at once would take each other for the host.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def is_held(self) -> bool:
        """Whether the file exists and a living process holds it."""
        return self._path.exists() and not self.is_abandoned()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def liveness_folder() -> Path:
    return Path(settings.BRIGADE_HOME) / "run"


def running_launches(folder: Path, process_ids: Collection[int]) -> dict[str, int]:
    """Map the launches that run in one of ``process_ids`` of this node to their process id."""
    owners = {_owner(process_id): process_id for process_id in process_ids}
    # The lock must be held, too: the number of a dead host may be another process's by now.
    return {
        launch_id: owners[owner]
        for launch_id, owner in _launches(folder)
        if owner in owners and LivenessLock(folder, launch_id).is_held()
    }


def abandoned_launches(folder: Path) -> set[str]:
    """Return the launches of this node whose process died without removing its lock file."""
    return {
        launch_id
        for launch_id, owner in _launches(folder)
        if owner.partition(" ")[2] == settings.NODE_NAME
        and LivenessLock(folder, launch_id).is_abandoned()
    }


def _launches(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each launch that has a lock file, with the content of the file."""
    for path in folder.glob("host-*.lock"):
        try:
            yield path.stem.removeprefix("host-"), path.read_text()
        except FileNotFoundError:
            continue  # its host has ended, or the controller has removed it


def _owner(process_id: int) -> str:
    # Nodes in containers may share the folder and have the same process ids.
    return f"{process_id} {settings.NODE_NAME}"
