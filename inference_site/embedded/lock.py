"""A file lock between processes that the kernel releases when its holder dies."""

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from inference_site.embedded.errors import EmbeddedServerError


class FileLock:
    """An open lock file, at first unlocked; closing it releases the lock.

    Linux drops the held lock when a change from shared to exclusive fails, and so do these methods.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``, made with mode 0600 when there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def try_shared(self) -> bool:
        """Take the lock beside other shared holders; False when an exclusive one is in the way."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; False when anyone else has it."""
        return self._try(fcntl.LOCK_EX)

    def wait_exclusive(self) -> None:
        """Take the lock alone, waiting until nobody else has it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Give the lock back and keep the file open."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the lock back and close the file; harmless when done twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> str:
        """What the exclusive holder wrote into the file."""
        return os.pread(self._descriptor, 4096, 0).decode(errors="replace").strip()

    def write(self, text: str) -> None:
        """Say who holds the lock, for the messages of those who cannot have it."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise EmbeddedServerError(
                    f"{self.path}: this file system has no file locks; "
                    "put BRIGADE_HOME on a local disk"
                ) from error
            raise
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
