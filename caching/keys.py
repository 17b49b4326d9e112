"""Keys of cached answers: digests of all that shapes an answer."""

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec


def parts_of(record: msgspec.Struct, excluded: Collection[str]) -> dict[str, Any]:
    """The fields of a record by name, but for those excluded: a new field is in the key.

    Raises:
        ValueError: the record has no field of an excluded name.
    """
    names = type(record).__struct_fields__
    if unknown := set(excluded) - set(names):
        raise ValueError(f"{type(record).__name__} has no field {', '.join(sorted(unknown))}")
    return {name: getattr(record, name) for name in names if name not in excluded}


def digest(*parts: Any) -> str:
    """The sha256 of parts, in hexadecimal; equal only where all parts are."""
    plain = msgspec.to_builtins(parts, str_keys=True, order="deterministic")
    return hashlib.sha256(msgspec.msgpack.encode(plain)).hexdigest()
