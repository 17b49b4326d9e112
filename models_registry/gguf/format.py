"""The GGUF container: its key-values and tensor table, read under bounds.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The rules on tensors are those
of llama.cpp's loader, so that what passes here is not refused there for its layout.

The file is read, not mapped: a file that shrinks under a map kills the process with SIGBUS.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
MAX_KEPT_STRING_BYTES: Final = 1024 * 1024
MAX_KEPT_ARRAY_LENGTH: Final = 4096
# Of a whole header. Real ones keep a template and a few numbers for each block; the largest
# vocabularies have 260,000 tokens and half a million merges.
MAX_KEPT_BYTES: Final = 4 * 1024 * 1024
MAX_STRINGS: Final = 2 * 1024 * 1024
_MAX_KEY_VALUES: Final = 16_384
_MAX_TENSORS: Final = 32_768
_MAX_KEY_BYTES: Final = 65_535
_MAX_TENSOR_NAME_BYTES: Final = 63  # GGML_MAX_NAME - 1
_MAX_DIMENSIONS: Final = 4  # GGML_MAX_DIMS

_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class GGUFError(ValueError):
    """The file is not a usable GGUF model; the message says what is wrong with it."""


def reason_against_part(count: int) -> str:
    """Why one of ``count`` files that make a model together is refused, and what helps."""
    return (
        f"It is one of {count} parts of a model; a version has one file. Join the parts "
        "(llama-gguf-split --merge FIRST_PART NEW_FILE) and register the new file."
    )


@dataclass(frozen=True)
class Skipped:
    """A value that was walked over, not kept: a vocabulary, say.

    `length` counts its elements, or the bytes of a text; `seen` are the watched texts among them.
    """

    length: int
    seen: frozenset[bytes] = frozenset()


Scalar = int | float | bool
Value = Scalar | bytes | tuple[Scalar, ...] | Skipped
TypeSizes = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Tensor:
    """An entry of the tensor table; `shape` has the length of a row first, as ggml has it."""

    name: str
    type: int
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Container:
    """What a GGUF file declares: its key-values and its tensors."""

    values: dict[str, Value]
    tensors: tuple[Tensor, ...]

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(tensor.size_bytes for tensor in self.tensors)


class _Cursor:
    """Sequential reads that never pass the end of the file or the header's bound."""

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
        """Bytes that are remembered, of which a header may have so many in all."""
        self._require(length_bytes, what)
        self._kept_bytes_left -= length_bytes
        if self._kept_bytes_left < 0:
            raise GGUFError(f"The values are larger than {MAX_KEPT_BYTES} bytes (at {what}).")
        return self.read(length_bytes, what)

    def skip_strings(self, count: int, what: str) -> frozenset[bytes]:
        """Walk over texts; those of them that are watched for."""
        self._strings_left -= count
        if self._strings_left < 0:
            raise GGUFError(f"The header has more than {MAX_STRINGS} texts (at {what}).")
        # The hot loop, hence inlined: a vocabulary has 50,000 to 260,000 strings, and as many
        # merges; a hostile header has two million.
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
        """A number of things to come, refused if so many cannot follow."""
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


def read_container(
    file: BinaryIO,
    file_bytes: int,
    type_sizes: TypeSizes,
    watched: frozenset[bytes] = frozenset(),
) -> Container:
    """Read the header of an open GGUF file.

    Args:
        file: Binary file at position 0, buffered.
        file_bytes: Its size; declared tensors must lie within it.
        type_sizes: ggml type → (elements per block, bytes per block).
        watched: Texts to look out for in lists of texts; see `Skipped.seen`.

    Raises:
        GGUFError: The header is damaged, truncated, hostile or of an unsupported version.
    """
    cursor = _Cursor(file, file_bytes, watched)
    if cursor.read(4, "the magic number") != b"GGUF":
        raise GGUFError("The file does not start with 'GGUF': it is not a GGUF model.")
    version = cursor.u32("the version")
    if version not in (2, 3):
        hint = " (big-endian files are not supported)" if version and not version & 0xFFFF else ""
        raise GGUFError(f"GGUF version {version} is not supported, only 2 and 3{hint}.")
    tensor_count = cursor.count("tensors", 24, _MAX_TENSORS)
    key_value_count = cursor.count("key-values", 13, _MAX_KEY_VALUES)
    values: dict[str, Value] = {}
    for _ in range(key_value_count):
        key = _text(cursor.string("a key", _MAX_KEY_BYTES), "A key")
        if key in values:
            raise GGUFError(f"The key {key!r} occurs twice.")
        values[key] = _value(cursor, key)
    return Container(
        values, _tensors(cursor, tensor_count, _alignment(values), file_bytes, type_sizes)
    )


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise GGUFError(f"{what} is not valid UTF-8: {data[:40]!r}.") from error


def _value(cursor: _Cursor, key: str) -> Value:
    value_type = cursor.u32(f"the type of {key}")
    if value_type == _ARRAY:
        return _array(cursor, key)
    if value_type == _STRING:
        length_bytes = cursor.u64(key)
        if length_bytes > MAX_KEPT_STRING_BYTES:
            cursor.skip(length_bytes, key)
            return Skipped(length_bytes)
        return cursor.keep(length_bytes, key)
    scalar = _scalar_struct(value_type, key)
    return _scalar(cursor.read(scalar.size, key), scalar)


def _scalar_struct(value_type: int, key: str) -> struct.Struct:
    scalar = _SCALARS.get(value_type)
    if scalar is None:
        raise GGUFError(f"{key} has the unknown value type {value_type}.")
    return scalar


def _scalar(data: bytes, scalar: struct.Struct) -> Scalar:
    (value,) = scalar.unpack(data)
    return value


def _array(cursor: _Cursor, key: str) -> tuple[Scalar, ...] | Skipped:
    element_type = cursor.u32(f"the element type of {key}")
    if element_type == _ARRAY:
        raise GGUFError(f"{key} is an array of arrays, which no model format uses.")
    if element_type == _STRING:
        length = cursor.count(f"strings in {key}", 8)
        return Skipped(length, cursor.skip_strings(length, key))
    scalar = _scalar_struct(element_type, key)
    length = cursor.count(f"elements in {key}", scalar.size)
    if length > MAX_KEPT_ARRAY_LENGTH:
        cursor.skip(length * scalar.size, key)
        return Skipped(length)
    data = cursor.keep(length * scalar.size, key)
    return tuple(value for (value,) in scalar.iter_unpack(data))


def _alignment(values: dict[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or alignment <= 0
        or alignment & (alignment - 1)
        or alignment > 1 << 20
    ):
        raise GGUFError(f"general.alignment is {alignment!r}, not a sensible power of two.")
    return alignment


def _tensors(
    cursor: _Cursor, count: int, alignment: int, file_bytes: int, type_sizes: TypeSizes
) -> tuple[Tensor, ...]:
    """The tensors, each checked to lie where llama.cpp expects it."""
    names: set[bytes] = set()
    tensors: list[Tensor] = []
    end = 0
    for _ in range(count):
        name = cursor.string("a tensor name", _MAX_TENSOR_NAME_BYTES)
        if name in names:
            raise GGUFError(f"The tensor {name.decode(errors='replace')!r} occurs twice.")
        names.add(name)
        tensor = _tensor(cursor, name.decode(errors="replace"), type_sizes)
        label = f"tensor {tensor.name!r}"
        offset = cursor.u64(label)
        if offset != end:
            raise GGUFError(f"The {label} is at offset {offset}; {end} was expected.")
        tensors.append(tensor)
        end = _padded(offset + tensor.size_bytes, alignment)
    # The last tensor's padding may be missing; its bytes may not.
    needed_bytes = _padded(cursor.position, alignment) + (
        offset + tensor.size_bytes if count else 0
    )
    if count and needed_bytes > file_bytes:
        raise GGUFError(
            f"The file is truncated: its tensors need {needed_bytes} bytes, it has {file_bytes}. "
            "Fetch it again."
        )
    return tuple(tensors)


def _tensor(cursor: _Cursor, name: str, type_sizes: TypeSizes) -> Tensor:
    label = f"tensor {name!r}"
    dimension_count = cursor.u32(label)
    if dimension_count > _MAX_DIMENSIONS:
        raise GGUFError(f"The {label} has {dimension_count} dimensions; 4 is the most.")
    dimensions = [cursor.u64(label) for _ in range(dimension_count)]
    tensor_type = cursor.u32(label)
    if tensor_type not in type_sizes:
        raise GGUFError(f"The {label} has the unknown type {tensor_type}.")
    block_elements, block_bytes = type_sizes[tensor_type]
    elements = 1
    for dimension in dimensions:
        elements *= dimension
    if elements >= 1 << 63 or (dimensions and dimensions[0] % block_elements):
        raise GGUFError(f"The {label} has the impossible shape {dimensions}.")
    size_bytes = elements // block_elements * block_bytes
    return Tensor(name, tensor_type, tuple(dimensions), size_bytes)


def _padded(position: int, alignment: int) -> int:
    return (position + alignment - 1) // alignment * alignment
