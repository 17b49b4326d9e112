"""The part of a file that has come, and the note beside it from which a download goes on.

`<file>.part` holds bytes, `<file>.part.json` says of which file they are the beginning, and how
many of them are surely on the disk: after a power cut the file may be longer than what was written.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from models_registry.sources.progress import ProgressCallback
from models_registry.sources.storage import hash_into, reserve

_SYNC_BYTES: Final = 64 * 1024 * 1024


@dataclass
class PartNote:
    """Of which file the bytes are the beginning.

    Attributes:
        source: The source URL.
        validator: The server's strong ETag, or its `Last-Modified`; "" if it gave neither.
        total_bytes: Size of the whole file, where known.
        sha256: Checksum of the whole file (hex), where known.
        md5: The same for MD5, which counts where no sha256 is known.
        synced_bytes: Bytes that are surely on the disk.
    """

    source: str
    validator: str = ""
    total_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    synced_bytes: int = 0


def note_of_part(part: Path) -> Path:
    """Where the note about a part is."""
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Forget the part and its note."""
    note_of_part(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


class PartialFile:
    """An open part with its running checksum; a context manager that leaves it resumable.

    The caller holds the lock on the file, so nobody else writes here.
    """

    def __init__(self, part: Path, source: str, on_progress: ProgressCallback) -> None:
        """Open the part; bytes of an earlier try at the same source are kept, and hashed."""
        self._path = part
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self.note = _read_note(part) or PartNote(source)
        if self.note.source != source:
            self.note = PartNote(source)
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
        """The checksum (hex) of the bytes so far."""
        return self._digest.hexdigest()

    def reserve(self, total_bytes: int) -> None:
        """Set room aside for the whole file. Raises `DiskFullError`."""
        self._file.flush()
        reserve(self._file.fileno(), total_bytes, self._path)

    def start_over(self) -> None:
        """Drop all bytes, and what was known of the file."""
        self.note = PartNote(self.note.source)
        self._digest = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()
        self.size_bytes = 0
        self._write_note()

    def append(self, data: bytes) -> None:
        """Add bytes; now and then they are made sure of."""
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)
        if self.size_bytes - self.note.synced_bytes >= _SYNC_BYTES:
            self.sync()

    def sync(self) -> None:
        """Bring all bytes to the disk, and say so in the note."""
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self.note.synced_bytes = self.size_bytes
        self._write_note()

    def _write_note(self) -> None:
        note = note_of_part(self._path)
        draft = note.with_name(note.name + ".new")
        draft.write_text(json.dumps(asdict(self.note)))
        os.replace(draft, note)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.sync()
            self._file.truncate(self.size_bytes)  # what was set aside for the rest
        finally:
            self._file.close()


def _read_note(part: Path) -> PartNote | None:
    try:
        facts: Any = json.loads(note_of_part(part).read_text())
        note = PartNote(**facts)
    except (OSError, ValueError, TypeError):
        return None  # none, or one that was cut short: the download starts over
    numbers = (note.synced_bytes, note.total_bytes or 0)
    texts = (note.source, note.validator, note.sha256 or "", note.md5 or "")
    are_sound = all(type(number) is int and number >= 0 for number in numbers)
    return note if are_sound and all(isinstance(text, str) for text in texts) else None
