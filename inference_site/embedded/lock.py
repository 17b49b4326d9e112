"""A file lock between processes that the kernel releases when its holder dies."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Self

from inference_site.embedded import EmbeddedServerError


class FileLock:
    """An open lock file, at first unlocked; closing it releases the lock.

    Linux drops the held lock when a change from shared to exclusive fails, and so do these methods.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def try_shared(self) -> bool:
        """Take the lock together with other shared holders; return whether that succeeded."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone; return whether that succeeded."""
        return self._try(fcntl.LOCK_EX)

    def wait_exclusive(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        """Release the lock and keep the file open."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> str:
        """Return the text that the exclusive holder wrote."""
        return os.pread(self._descriptor, 4096, 0).decode(errors="replace").strip()

    def write(self, text: str) -> None:
        """Name the holder, for the error messages of other processes."""
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

    def __exit__(self, *_error: object) -> None:
        self.close()
