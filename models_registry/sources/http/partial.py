"""A part of a file, with a note beside it that says how to continue the download.

After a power failure `<file>.part` may be longer than the bytes that were written.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec

from models_registry.sources.interface import ProgressCallback
from models_registry.sources.storage import hash_into, reserve

_Count = Annotated[int, msgspec.Meta(ge=0)]
_SYNC_BYTES: Final = 64 * 1024 * 1024


@dataclass
class PartNote:
    """The file of which the part is the beginning."""

    source: str  # the source URL
    validator: str = ""  # a strong ETag or `Last-Modified`, for `If-Range`
    total_bytes: _Count | None = None  # of the whole file, as are the checksums (hex)
    sha256: str | None = None
    md5: str | None = None
    synced_bytes: _Count = 0  # on disk


def note_of_part(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    note_of_part(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


class PartialFile:
    """An open part and its checksum; a context manager. The caller holds the lock on the file."""

    def __init__(self, part: Path, source: str, on_progress: ProgressCallback) -> None:
        """Open the part; synced bytes from the same source are kept and hashed."""
        self._path = part
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.note = PartNote(source)
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            note = msgspec.json.decode(note_of_part(part).read_bytes(), type=PartNote)
            if note.source == source:
                self.note = note
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._file = os.fdopen(descriptor, "r+b")
        try:
            kept_bytes = min(self.note.synced_bytes, os.fstat(descriptor).st_size)
            self._file.truncate(kept_bytes)
            if kept_bytes:
                hash_into(self._digest, self._file, kept_bytes, on_progress)
            self.size_bytes = self.note.synced_bytes = kept_bytes
        except BaseException:
            self._file.close()
            raise

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def reserve(self, total_bytes: int) -> None:
        self._file.flush()
        reserve(self._file.fileno(), total_bytes, self._path)

    def start_over(self) -> None:
        self.note = PartNote(self.note.source)
        self._digest = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()
        self.size_bytes = 0
        self._write_note()

    def append(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)
        if self.size_bytes - self.note.synced_bytes >= _SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self.note.synced_bytes = self.size_bytes
        self._write_note()

    def _write_note(self) -> None:
        note = note_of_part(self._path)
        draft = note.with_name(note.name + ".new")
        draft.write_bytes(msgspec.json.encode(self.note))
        os.replace(draft, note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self.sync()
            self._file.truncate(self.size_bytes)  # frees the reserved rest
        finally:
            self._file.close()
