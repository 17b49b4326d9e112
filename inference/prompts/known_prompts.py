"""Token ids of recent prompts, so that a prompt that comes again is not tokenised again."""

import hashlib
import json
from array import array
from typing import Any, Final

# Of 4 bytes each; an entry costs as much as so many ids more.
MOST_IDS: Final = 2_000_000
ENTRY_IDS: Final = 64
# A template that uses one of these gives another prompt each time.
CHANGING: Final = ("strftime_now", "random", "lipsum")


def changes_by_itself(template: str) -> bool:
    return any(name in template for name in CHANGING)


def key_of(template: str, *parts: Any) -> bytes | None:
    """The key of a prompt from all that its ids depend on; None if ``template`` may change them."""
    if changes_by_itself(template):
        return None
    return hashlib.sha256(json.dumps(parts).encode()).digest()


class KnownPrompts:
    """The least recently used prompts leave when there is no more room."""

    def __init__(self, most_ids: int = MOST_IDS) -> None:
        self._room = most_ids
        self._kept: dict[bytes, array[int]] = {}

    def find(self, key: bytes) -> list[int] | None:
        if (ids := self._kept.pop(key, None)) is None:
            return None
        self._kept[key] = ids
        return ids.tolist()

    def keep(self, key: bytes, ids: list[int]) -> None:
        if key not in self._kept:
            self._kept[key] = array("I", ids)
            self._room -= len(ids) + ENTRY_IDS
        while self._room < 0:
            self._room += len(self._kept.pop(next(iter(self._kept)))) + ENTRY_IDS
