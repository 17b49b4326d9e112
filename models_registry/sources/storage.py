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
from typing import IO, Final

from models_registry.sources.errors import DiskFullError
from models_registry.sources.interface import Phase, ProgressCallback

_CHUNK_BYTES: Final = 1024 * 1024
_LOCK_POLL_SECONDS: Final = 0.2
_KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE
_BLOCK_BYTES: Final = 512  # the unit of st_blocks on every file system
_CANNOT_RESERVE: Final = (errno.EOPNOTSUPP, errno.ENOSYS)


def copy_hashed(
    source: IO[bytes],
    target: Path,
    total_bytes: int,
    on_progress: ProgressCallback,
    phase: Phase,
    *,
    append: bool = False,
) -> str:
    """Copy a stream into a file, sync the file to disk, and return the stream's sha256 (hex)."""
    digest = hashlib.sha256()
    with target.open("ab" if append else "wb") as file:
        reserve(file.fileno(), file.tell() + total_bytes, target)
        for chunk in _chunks(source, total_bytes, on_progress, phase):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def hash_file(path: Path, on_progress: ProgressCallback) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        hash_into(digest, file, os.fstat(file.fileno()).st_size, on_progress)
    return digest.hexdigest()


def hash_into(
    digest: "hashlib._Hash", source: IO[bytes], total_bytes: int, on_progress: ProgressCallback
) -> None:
    for chunk in _chunks(source, total_bytes, on_progress, "verifying"):
        digest.update(chunk)


def _chunks(
    source: IO[bytes], total_bytes: int, on_progress: ProgressCallback, phase: Phase
) -> Iterator[bytes]:
    done_bytes = 0
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk
        done_bytes += len(chunk)
        on_progress(done_bytes, total_bytes, phase)


def sync_to_disk(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskFullError(
            f"{folder} has {_megabytes(free_bytes)} free, but {purpose} needs "
            f"{_megabytes(needed_bytes)}. Free some space or choose another models directory."
        )


def reserve(descriptor: int, size_bytes: int, path: Path) -> None:
    """Reserve disk space for a file of `size_bytes`, so that no other download can take it.

    The length of the file stays; truncating the file to its length frees the rest. On a file
    system that cannot reserve, only the free space is checked. Raises `DiskFullError`.
    """
    status = os.fstat(descriptor)
    has_bytes = max(status.st_size, status.st_blocks * _BLOCK_BYTES)
    lacking_bytes = max(0, size_bytes - has_bytes)
    require_free_space(path.parent, lacking_bytes, path.name)
    number = _fallocate(descriptor, size_bytes) if lacking_bytes else 0
    if number in (0, *_CANNOT_RESERVE):
        return
    os.ftruncate(descriptor, status.st_size)  # frees blocks that were reserved before the error
    if number in (errno.ENOSPC, errno.EDQUOT):
        require_free_space(path.parent, lacking_bytes, path.name)
    raise OSError(number, os.strerror(number))


def _fallocate(descriptor: int, size_bytes: int) -> int:
    """Call Linux's fallocate, which Python lacks; returns 0 or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_int64(size_bytes)
    failed = libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), size)
    return ctypes.get_errno() if failed else 0


@contextmanager
def exclusive(lock_path: Path, on_progress: ProgressCallback) -> Iterator[None]:
    """Hold a lock between processes and threads; the kernel releases it when its holder dies.

    While another holder has it, `on_progress` is told `waiting`; it may raise to cancel.
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
            # Explicit: a child that was forked meanwhile shares the file and would keep the lock.
            fcntl.flock(file, fcntl.LOCK_UN)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
