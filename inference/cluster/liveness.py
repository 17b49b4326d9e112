"""Know at once, on one machine, that a host died: the kernel drops its file lock."""

import fcntl
import os
import time
from collections.abc import Collection
from pathlib import Path

from django.conf import settings

# So long at most does a look at a lock hold it.
PROBE_SECONDS = 0.2


class LivenessLock:
    """An exclusive lock on a file named after the launch, held while the process lives.

    The file says which process of which node holds it.
    """

    def __init__(self, folder: Path, launch_id: str) -> None:
        self._path = folder / f"host-{launch_id}.lock"

    def hold(self) -> None:
        """Take the lock until the process ends. Raises ``BlockingIOError`` when it is taken."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + PROBE_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # somebody may just look whether it is held
                if time.monotonic() >= deadline:
                    raise
                time.sleep(PROBE_SECONDS / 20)
        os.write(self._descriptor, _owner(os.getpid()).encode())

    def is_abandoned(self) -> bool:
        """True when the file is here and nobody holds it; False also when it is not here."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            # Shared, or two that look at the same moment would take each other for the host.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def is_held(self) -> bool:
        """True when the file is here and a living process holds it."""
        return self._path.exists() and not self.is_abandoned()

    def remove(self) -> None:
        """Delete the file once the launch is over."""
        self._path.unlink(missing_ok=True)


def liveness_folder() -> Path:
    """Where hosts of this machine keep their liveness locks."""
    return Path(settings.BRIGADE_HOME) / "run"


def running_launches(folder: Path, process_ids: Collection[int]) -> dict[str, int]:
    """The launches that some processes of this node are, with the process id of each.

    Args:
        folder: where they keep their liveness locks.
        process_ids: those to look for; locks of others are left alone.
    """
    owners = {_owner(process_id): process_id for process_id in process_ids}
    found = {}
    for path in folder.glob("host-*.lock"):
        try:
            process_id = owners.get(path.read_text())
        except FileNotFoundError:
            continue  # its host has just ended
        launch_id = path.stem.removeprefix("host-")
        # A number that a host had before it died may be another process's by now.
        if process_id is not None and LivenessLock(folder, launch_id).is_held():
            found[launch_id] = process_id
    return found


def abandoned_launches(folder: Path) -> set[str]:
    """The launches of this node whose process died without tidying up."""
    found = set()
    for path in folder.glob("host-*.lock"):
        try:
            is_own = path.read_text().partition(" ")[2] == settings.NODE_NAME
        except FileNotFoundError:
            continue  # the controller has just removed it
        launch_id = path.stem.removeprefix("host-")
        if is_own and LivenessLock(folder, launch_id).is_abandoned():
            found.add(launch_id)
    return found


def _owner(process_id: int) -> str:
    """Nodes in containers may share the folder, and then have the same numbers."""
    return f"{process_id} {settings.NODE_NAME}"
