"""Bounded reads of a GGUF header.

The file is not mapped: a file that shrinks under a map kills the process with SIGBUS.
"""

import struct
from typing import BinaryIO, Final

MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
# Bytes of all values that are kept. Real headers keep a template and a few numbers for each block.
MAX_KEPT_BYTES: Final = 4 * 1024 * 1024
# The largest vocabularies have 260,000 tokens and half a million merges.
MAX_STRINGS: Final = 2 * 1024 * 1024
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class GGUFError(ValueError):
    """The file is not a usable GGUF model; the message says why."""


class Cursor:
    """Reads that never pass the end of the file or the limits above; errors name `what`."""

    def __init__(self, file: BinaryIO, file_bytes: int, watched: frozenset[bytes]) -> None:
        self._file = file
        self._watched = watched
        self._strings_left = MAX_STRINGS
        self._kept_bytes_left = MAX_KEPT_BYTES
        self._limit = min(file_bytes, MAX_HEADER_BYTES)
        self._at_bound = file_bytes > MAX_HEADER_BYTES
        self.position = 0

    @property
    def remaining_bytes(self) -> int:
        return self._limit - self.position

    def read(self, length_bytes: int, what: str) -> bytes:
        self._require(length_bytes, what)
        data = self._file.read(length_bytes)
        if len(data) != length_bytes:
            raise GGUFError(f"The file became shorter while {what} was read.")
        self.position += length_bytes
        return data

    def skip(self, length_bytes: int, what: str) -> None:
        self._require(length_bytes, what)
        self._file.seek(length_bytes, 1)
        self.position += length_bytes

    def keep(self, length_bytes: int, what: str) -> bytes:
        """Read a value that is kept; these count towards ``MAX_KEPT_BYTES``."""
        self._require(length_bytes, what)
        self._kept_bytes_left -= length_bytes
        if self._kept_bytes_left < 0:
            raise GGUFError(f"The values are larger than {MAX_KEPT_BYTES} bytes (at {what}).")
        return self.read(length_bytes, what)

    def skip_strings(self, count: int, what: str) -> frozenset[bytes]:
        """Skip texts; returns the watched texts among them."""
        self._strings_left -= count
        if self._strings_left < 0:
            raise GGUFError(f"The header has more than {MAX_STRINGS} texts (at {what}).")
        # Inlined for speed: a hostile header has two million strings.
        read, unpack, limit, position = self._file.read, _U64.unpack, self._limit, self.position
        watched, seen = self._watched, set()
        for _ in range(count):
            if position + 8 > limit:
                break
            (length_bytes,) = unpack(read(8))
            position += 8 + length_bytes
            if position > limit:
                break
            if length_bytes:
                text = read(length_bytes)
                if text in watched:
                    seen.add(text)
        else:
            self.position = position
            return frozenset(seen)
        self.position = limit
        self._require(1, what)
        return frozenset()

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.read(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.read(8, what))[0])

    def string(self, what: str, max_bytes: int) -> bytes:
        length_bytes = self.u64(what)
        self._require(length_bytes, what)
        if length_bytes > max_bytes:
            raise GGUFError(f"{what} is {length_bytes} bytes long; at most {max_bytes} may be.")
        return self.read(length_bytes, what)

    def count(self, what: str, least_bytes_each: int, maximum: int | None = None) -> int:
        """Read a number of items. Raises if the rest of the file is too short for them."""
        number = self.u64(what)
        if maximum is not None and number > maximum:
            raise GGUFError(f"The file declares {number} {what}; at most {maximum} are allowed.")
        self._require(number * least_bytes_each, f"{number} {what}")
        return number

    def _require(self, length_bytes: int, what: str) -> None:
        if length_bytes <= self.remaining_bytes:
            return
        if self._at_bound:
            raise GGUFError(f"The header is larger than {MAX_HEADER_BYTES} bytes (at {what}).")
        raise GGUFError(
            f"The file ends inside {what}: {length_bytes} bytes are declared at offset "
            f"{self.position}, {self.remaining_bytes} are left. It is truncated or damaged."
        )
