"""Lock files and log files of processes."""

import errno
import fcntl
import os
from pathlib import Path
from typing import BinaryIO, Self

from inference_site.embedded import EmbeddedServerError

_LARGEST_LOG_BYTES = 10 * 1024 * 1024


class FileLock:
    """An open lock file, at first unlocked; the kernel releases the lock when its holder dies.

    Linux drops the held lock when a change from shared to exclusive fails, and so do these methods.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def try_shared(self) -> bool:
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        return self._try(fcntl.LOCK_EX)

    def wait_exclusive(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self) -> str:
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


def open_log(path: Path, largest_bytes: int = _LARGEST_LOG_BYTES) -> BinaryIO:
    """Open ``path`` for appending; a file over ``largest_bytes`` becomes ``<path>.1`` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.stat().st_size > largest_bytes:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab", buffering=0)


def last_lines(path: Path, count: int = 15, since_bytes: int = 0) -> str:
    """Return the last ``count`` lines of ``path`` after its first ``since_bytes`` bytes."""
    if not path.is_file():
        return f"({path} was not written)"
    with path.open("rb") as file:
        file.seek(max(since_bytes, path.stat().st_size - 64 * 1024))
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-count:]) or f"({path} is empty)"
