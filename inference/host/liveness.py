"""Know at once, on one machine, that a host died: the kernel drops its file lock."""

import fcntl
import os
from pathlib import Path


class LivenessLock:
    """An exclusive lock on a file named after the launch, held while the process lives."""

    def __init__(self, folder: Path, launch_id: str) -> None:
        self._path = folder / f"host-{launch_id}.lock"

    def hold(self) -> None:
        """Take the lock until the process ends. Raises ``BlockingIOError`` when it is taken."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_abandoned(self) -> bool:
        """True when the file is here and nobody holds it; False also when it is not here."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
