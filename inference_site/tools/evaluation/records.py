"""Items with checkable answers, and the answers to them, as files of JSON lines."""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

ITEMS: Final = Path(__file__).with_name("items.jsonl")


class FileError(Exception):
    """A file cannot be used; the message says why."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The right answer, in a form that depends on the kind."""

    kind: Literal["number", "yes_no", "choice", "label", "order", "json", "code"]
    gold: Any


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One task; ``fields`` are of its request."""

    id: str
    group: str
    prompt: str
    fields: dict[str, Any]
    check: Check


class Result(msgspec.Struct, frozen=True):
    """The answer to a request, or its last error; a panel has several texts."""

    key: str  # a digest of the request
    day: str
    arm: str
    item: str
    texts: list[str] = []
    tokens: int = 0
    seconds: float = 0.0
    versions: list[str] = []
    error: str = ""


def read_items(path: Path) -> list[Item]:
    """The items of a file. Raises FileError if it has none, or an id twice."""
    items = _read(path, Item)
    if not items or len({item.id for item in items}) < len(items):
        raise FileError(f"{path}: there must be items, and each must have an id of its own.")
    return items


class Results:
    """Answers by the keys of their requests; new ones are appended to the file, if there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        known = _read(path, Result) if path is not None and path.exists() else []
        self._by_key = {result.key: result for result in known if not result.error}

    def find(self, key: str) -> Result | None:
        """The answer to a request, or None; errors do not count."""
        return self._by_key.get(key)

    def add(self, result: Result) -> None:
        """Keep an answer."""
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(result) + b"\n")


def _read(path: Path, kind: type[Any]) -> list[Any]:
    try:
        return msgspec.json.Decoder(kind).decode_lines(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise FileError(f"{path}: {error}") from error
