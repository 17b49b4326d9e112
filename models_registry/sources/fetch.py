"""The entrance of this package: fetch a file, verify it, and move it into place by rename."""

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models_registry.errors import RegistryError
from models_registry.gguf.format import GGUFError
from models_registry.sources import checksum
from models_registry.sources.errors import (
    DestinationError,
    DiskFullError,
    SizeMismatchError,
    SourceError,
)
from models_registry.sources.http.download import download
from models_registry.sources.http.partial import discard
from models_registry.sources.http.remote import Expected, RemoteFile
from models_registry.sources.interface import (
    ANONYMOUS,
    Access,
    ProgressCallback,
    Target,
    ignore_progress,
)
from models_registry.sources.schemes import normalised_sha256, read_url, scheme_of
from models_registry.sources.storage import exclusive, sync_to_disk


@dataclass(frozen=True)
class FetchedFile:
    """A model file in place; `fetched` is False if it was there already."""

    path: Path
    sha256: str
    size_bytes: int
    fetched: bool


def fetch(
    url: str,
    destination: Path,
    sha256: str | None = None,
    on_progress: ProgressCallback = ignore_progress,
    *,
    size_bytes: int | None = None,
    access: Access = ANONYMOUS,
    accept: Callable[[Path], object] | None = None,
    keep_present: bool = True,
) -> FetchedFile:
    """Fetch the file of `url` to `destination`, unless it is there already. Raises `SourceError`.

    The file is written beside `destination` and renamed, so that a reader sees the old file or
    the new one. Processes that fetch to the same place take turns. A download that ended early
    leaves `<destination>.part`, which the next fetch continues.

    Args:
        url: see the table in `schemes`. `http://` only from this machine, or with a checksum.
        sha256: the expected checksum in hex; a present file with another one is replaced.
        on_progress: see `ProgressCallback`; an exception that it raises cancels the fetch.
        accept: checks the file before it is moved into place. A `GGUFError` or `RegistryError`
            deletes the file; after any other exception a download is kept and can continue.
        keep_present: whether a present file is good enough. A file that another process fetched
            while this call waited always is.
    """
    scheme_of(url)
    expected = Expected(normalised_sha256(sha256), size_bytes)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        before = _identity(destination)
        present = _present(destination, expected, on_progress) if keep_present else None
        if present is not None:
            return present
        with exclusive(destination.with_name(f".{destination.name}.lock"), on_progress):
            if keep_present or _identity(destination) != before:
                present = _present(destination, expected, on_progress)
            return present or _fetch(url, destination, expected, on_progress, access, accept)
    except OSError as error:
        raise _storage_error(destination, error) from error


def _fetch(
    url: str,
    destination: Path,
    expected: Expected,
    on_progress: ProgressCallback,
    access: Access,
    accept: Callable[[Path], object] | None,
) -> FetchedFile:
    source = read_url(url, access)
    part = destination.with_name(destination.name + ".part")
    with _scratch(destination) as scratch:
        if isinstance(source, RemoteFile):
            whole = part
            sha256 = download(source, part, expected, on_progress)
        else:
            whole = scratch / destination.name
            sha256 = source(Target(whole, scratch, expected.size_bytes, on_progress))
        try:
            _require_expected(url, expected, sha256, whole.stat().st_size)
            if accept is not None:
                accept(whole)
        except (SourceError, GGUFError, RegistryError):
            discard(whole)
            raise
        sync_to_disk(whole)
        os.replace(whole, destination)
    discard(part)
    sync_to_disk(destination.parent)
    checksum.write_note(destination, sha256)
    return FetchedFile(destination, sha256, destination.stat().st_size, fetched=True)


def _require_expected(url: str, expected: Expected, sha256: str, size_bytes: int) -> None:
    checksum.require_sha256(url, expected.sha256, sha256)
    if expected.size_bytes not in (None, size_bytes):
        raise SizeMismatchError(
            f"{url} is not the expected file: it has {size_bytes} bytes, not "
            f"{expected.size_bytes}. Nothing was kept. Correct the size in the registry if it is "
            "wrong there."
        )


def _present(
    destination: Path, expected: Expected, on_progress: ProgressCallback
) -> FetchedFile | None:
    if not destination.is_file():
        return None
    size_bytes = destination.stat().st_size
    if expected.size_bytes not in (None, size_bytes):
        return None
    sha256 = checksum.sha256_of(destination, on_progress)
    if expected.sha256 not in (None, sha256):
        return None
    return FetchedFile(destination, sha256, size_bytes, fetched=False)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """An empty folder for one fetch; the caller holds the lock.

    Other folders are left of killed fetches, whose pip may still write: hence a new name each time.
    """
    stem = f".{destination.name}.fetch"
    for stale in destination.parent.glob(f"{glob.escape(stem)}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{stem}-", dir=destination.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _storage_error(destination: Path, error: OSError) -> SourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"The disk filled up while {destination} was written. Free some space and try again."
        )
    return DestinationError(
        f"{destination} could not be written: {error.strerror or error}. Check the models "
        "directory and its permissions."
    )
