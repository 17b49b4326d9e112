"""The sha256 of a file, kept in `<file>.sha256` so that a large file is hashed once.

The note is valid while the file has the size and modification time in it.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from models_registry.sources.errors import ChecksumMismatchError
from models_registry.sources.interface import ProgressCallback
from models_registry.sources.storage import hash_file, hash_into


@dataclass(frozen=True)
class _Note:
    sha256: str
    size_bytes: int
    mtime_ns: int


def note_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_note(path: Path, sha256: str) -> None:
    note = note_path(path)
    draft = note.with_name(note.name + ".part")
    draft.write_bytes(msgspec.json.encode(_note(path, sha256)))
    os.replace(draft, note)


def noted_sha256(path: Path) -> str | None:
    try:
        note = msgspec.json.decode(note_path(path).read_bytes(), type=_Note)
        return note.sha256 if note == _note(path, note.sha256) else None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def sha256_of(path: Path, on_progress: ProgressCallback) -> str:
    """The checksum (hex) from a valid note, else of the bytes, which is then noted."""
    known = noted_sha256(path)
    if known is not None:
        return known
    sha256 = hash_file(path, on_progress)
    write_note(path, sha256)
    return sha256


def has_sha256(path: Path, sha256: str, on_progress: ProgressCallback) -> bool:
    """Whether the file has this checksum (hex), which is then noted if the folder is writable."""
    known = noted_sha256(path)
    if known is not None:
        return known == sha256
    is_same = hash_file(path, on_progress) == sha256
    if is_same:
        with contextlib.suppress(OSError):
            write_note(path, sha256)
    return is_same


def require_md5(url: str, expected: str, path: Path, on_progress: ProgressCallback) -> None:
    """Raise `ChecksumMismatchError` if the file was damaged; MD5 does not detect forgery."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        hash_into(digest, file, path.stat().st_size, on_progress)
    if digest.hexdigest() != expected:
        raise ChecksumMismatchError(
            f"{url} arrived damaged: its MD5 is {digest.hexdigest()}, and the server's ETag is "
            f"{expected}. Nothing was kept. Try again; if the server's ETags are no MD5, give the "
            "version its sha256."
        )


def require_sha256(url: str, expected: str | None, sha256: str) -> None:
    """Raise `ChecksumMismatchError` unless the checksums are equal or none is expected."""
    if expected not in (None, sha256):
        raise ChecksumMismatchError(
            f"{url} is not the expected file: its sha256 is {sha256}, not {expected}. Nothing was "
            "kept. If the publisher replaced the file on purpose, correct the checksum in the "
            "registry; otherwise do not use it."
        )


def _note(path: Path, sha256: str) -> _Note:
    status = path.stat()
    return _Note(sha256, status.st_size, status.st_mtime_ns)
