"""Items: a prompt, the fields of its request, and how its answer is checked."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

FILE: Final = Path(__file__).with_name("items.jsonl")


class FileError(Exception):
    """A file of items or results cannot be used; the message says why."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right answer, in a form that depends on the kind."""

    kind: Literal["number", "yes_no", "choice", "label", "order", "json", "code"]
    gold: Any


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task."""

    id: str
    group: str
    prompt: str
    fields: dict[str, Any]
    check: Check


def read_items(path: Path) -> list[Item]:
    """The items of a file of JSON lines.

    Raises:
        FileError: the file is absent or invalid, has no items, or an id twice.
    """
    try:
        items = msgspec.json.Decoder(Item).decode_lines(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise FileError(f"{path}: {error}") from error
    if not items or len({item.id for item in items}) < len(items):
        raise FileError(f"{path}: there must be items, and each must have an id of its own.")
    return items


def digest(items: Sequence[Item]) -> str:
    """A name for the contents of items."""
    return hashlib.sha256(msgspec.json.encode(items)).hexdigest()[:12]
