"""The GGUF container (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).

Tensors are checked as in llama.cpp's loader, which therefore accepts every layout that passes.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from models_registry.gguf.cursor import Cursor, GGUFError

MAX_KEPT_STRING_BYTES: Final = 1024 * 1024
MAX_KEPT_ARRAY_LENGTH: Final = 4096
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


def reason_against_part(count: int) -> str:
    """Why one of the ``count`` parts of a model is refused, and what to do."""
    return (
        f"It is one of {count} parts of a model; a version has one file. Join the parts "
        "(llama-gguf-split --merge FIRST_PART NEW_FILE) and register the new file."
    )


@dataclass(frozen=True)
class Skipped:
    """A large value that is not kept, such as a vocabulary."""

    length: int  # of a list, or bytes of a text
    seen: frozenset[bytes] = frozenset()  # the watched texts in a list


Scalar = int | float | bool
Value = Scalar | bytes | tuple[Scalar, ...] | Skipped
TypeSizes = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Tensor:
    name: str
    type: int
    shape: tuple[int, ...]  # the length of a row first, as in ggml
    size_bytes: int


@dataclass(frozen=True)
class Container:
    values: dict[str, Value]
    tensors: tuple[Tensor, ...]


def read_container(
    file: BinaryIO, file_bytes: int, type_sizes: TypeSizes, watched: frozenset[bytes] = frozenset()
) -> Container:
    """Read the header of an open, buffered GGUF file of `file_bytes`.

    `type_sizes` maps a ggml type to (elements per block, bytes per block). `watched` are texts to
    find in skipped lists; see `Skipped.seen`.
    """
    cursor = Cursor(file, file_bytes, watched)
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
        key = _key(cursor)
        if key in values:
            raise GGUFError(f"The key {key!r} occurs twice.")
        values[key] = _value(cursor, key)
    alignment = values.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or alignment <= 0
        or alignment & (alignment - 1)
        or alignment > 1 << 20
    ):
        raise GGUFError(f"general.alignment is {alignment!r}, not a sensible power of two.")
    return Container(values, _tensors(cursor, tensor_count, alignment, file_bytes, type_sizes))


def _key(cursor: Cursor) -> str:
    data = cursor.string("a key", _MAX_KEY_BYTES)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise GGUFError(f"A key is not valid UTF-8: {data[:40]!r}.") from error


def _value(cursor: Cursor, key: str) -> Value:
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
    (value,) = scalar.unpack(cursor.read(scalar.size, key))
    return cast("Scalar", value)


def _scalar_struct(value_type: int, key: str) -> struct.Struct:
    scalar = _SCALARS.get(value_type)
    if scalar is None:
        raise GGUFError(f"{key} has the unknown value type {value_type}.")
    return scalar


def _array(cursor: Cursor, key: str) -> tuple[Scalar, ...] | Skipped:
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


def _tensors(
    cursor: Cursor, count: int, alignment: int, file_bytes: int, type_sizes: TypeSizes
) -> tuple[Tensor, ...]:
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
    # Only the padding of the last tensor may be missing.
    needed_bytes = _padded(cursor.position, alignment) + (
        offset + tensor.size_bytes if count else 0
    )
    if count and needed_bytes > file_bytes:
        raise GGUFError(
            f"The file is truncated: its tensors need {needed_bytes} bytes, it has {file_bytes}. "
            "Fetch it again."
        )
    return tuple(tensors)


def _tensor(cursor: Cursor, name: str, type_sizes: TypeSizes) -> Tensor:
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
