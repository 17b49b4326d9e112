"""Bytes on disk: hashed copies, free space, and locks between processes."""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from models_registry.sources.errors import DiskFullError
from models_registry.sources.progress import Phase, ProgressCallback

_CHUNK_BYTES: Final = 1024 * 1024
_LOCK_POLL_SECONDS: Final = 0.2
_KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE
_BLOCK_BYTES: Final = 512  # what st_blocks counts, whatever the file system
_CANNOT_RESERVE: Final = (errno.EOPNOTSUPP, errno.ENOSYS)


class ByteReader(Protocol):
    """Anything bytes can be read from in pieces."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; empty at the end."""


def copy_hashed(
    source: ByteReader,
    target: Path,
    total_bytes: int | None,
    on_progress: ProgressCallback,
    phase: Phase,
    *,
    append: bool = False,
) -> str:
    """Copy a stream into a file that is on disk when this returns; answer its sha256 (hex).

    With `append` the stream follows what the file holds; the checksum is the stream's alone.
    """
    with target.open("ab" if append else "wb") as file:
        if total_bytes is not None:
            reserve(file.fileno(), file.tell() + total_bytes, target)
        sha256 = _pump(source, file.write, total_bytes, on_progress, phase)
        file.flush()
        os.fsync(file.fileno())
    return sha256


def hash_file(path: Path, on_progress: ProgressCallback) -> str:
    """The sha256 (hex) of a file."""
    with path.open("rb") as file:
        total_bytes = os.fstat(file.fileno()).st_size
        return _pump(file, None, total_bytes, on_progress, "verifying")


def hash_into(
    digest: "hashlib._Hash", source: ByteReader, total_bytes: int, on_progress: ProgressCallback
) -> None:
    """Read a stream from where it is to its end, into a checksum."""
    _pump(source, None, total_bytes, on_progress, "verifying", digest)


def sync_to_disk(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raise DiskFullError, with the numbers, unless `folder` has room for `needed_bytes`."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskFullError(
            f"{folder} has {_megabytes(free_bytes)} free, but {purpose} needs "
            f"{_megabytes(needed_bytes)}. Free some space or choose another models directory."
        )


def reserve(descriptor: int, size_bytes: int, path: Path) -> None:
    """Set room on the disk aside for a file that is going to have `size_bytes`.

    Others find that much less space free, so that two large files are not begun where there is
    room for one. The file does not become longer, and truncating it to its length gives back what
    it does not need. A file system that cannot do this is only asked for its free space.

    Args:
        descriptor: of the file, open for writing.
        size_bytes: of the whole file.
        path: of the file.

    Raises:
        DiskFullError: there is not enough room; with the numbers.
    """
    status = os.fstat(descriptor)
    has_bytes = max(status.st_size, status.st_blocks * _BLOCK_BYTES)
    lacking_bytes = max(0, size_bytes - has_bytes)
    require_free_space(path.parent, lacking_bytes, path.name)
    number = _fallocate(descriptor, size_bytes) if lacking_bytes else 0
    if number in (0, *_CANNOT_RESERVE):
        return
    os.ftruncate(descriptor, status.st_size)  # some blocks may have been had
    if number in (errno.ENOSPC, errno.EDQUOT):
        require_free_space(path.parent, lacking_bytes, path.name)
    raise OSError(number, os.strerror(number))


def _fallocate(descriptor: int, size_bytes: int) -> int:
    """Linux's call of this name, which Python does not have; 0 or the number of the error."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_int64(size_bytes)
    failed = libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), size)
    return ctypes.get_errno() if failed else 0


@contextmanager
def exclusive(lock_path: Path, on_progress: ProgressCallback) -> Iterator[None]:
    """Hold a lock that one process (and one thread) at a time can have.

    The kernel drops it when its holder dies. While another has it, `on_progress` is told
    `waiting` and may raise to give up.
    """
    with lock_path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_progress(0, None, "waiting")
                time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            # Explicit: a child forked meanwhile shares the file and would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)


class _Write(Protocol):
    def __call__(self, data: bytes, /) -> int: ...


def _pump(
    source: ByteReader,
    write: _Write | None,
    total_bytes: int | None,
    on_progress: ProgressCallback,
    phase: Phase,
    digest: "hashlib._Hash | None" = None,
) -> str:
    digest = digest or hashlib.sha256()
    done_bytes = 0
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        if write is not None:
            write(chunk)
        done_bytes += len(chunk)
        on_progress(done_bytes, total_bytes, phase)
    return digest.hexdigest()


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
