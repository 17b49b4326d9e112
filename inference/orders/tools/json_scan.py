"""Scan incomplete JSON, and measure its depth: pure."""

from collections.abc import Sequence
from typing import Any

# Longer than any head of a call: a tool's name has at most 128 characters.
MAX_HEAD_CHARACTERS = 400
_SPACE = " \t\r\n"


class ObjectEnd:
    """Finds the end of a JSON object in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str, start: int = 0) -> int | None:
        """Index after the closing brace, or None; continues the text of the previous call."""
        for index in range(start, len(text)):
            if self._closes(text[index]):
                return index + 1
        return None

    def _closes(self, character: str) -> bool:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth == 0
        return False


class NotAHeadError(Exception):
    """The text is not the head of a call, whatever follows."""


class UnfinishedError(Exception):
    """The text may become the head of a call."""


def read_head(text: str, names: Sequence[str], arguments_keys: Sequence[str]) -> tuple[str, int]:
    """The tool's name in the head of a call, and the index of the last brace of the head.

    A head is ``{"name": "…", "arguments": {``. Raises ``NotAHeadError``, or ``UnfinishedError`` if
    ``text`` may still become one.
    """
    cursor = _Cursor(text)
    cursor.skip("{")
    # Llama 3.1 often writes the type first.
    if cursor.skip('"type"', '"name"') == '"type"':
        cursor.skip(":")
        cursor.skip('"function"')
        cursor.skip(",")
        cursor.skip('"name"')
    cursor.skip(":")
    name = cursor.skip(*[f'"{name}"' for name in names])[1:-1]
    cursor.skip(",")
    cursor.skip(*[f'"{key}"' for key in arguments_keys])
    cursor.skip(":")
    cursor.skip("{")
    return name, cursor.position - 1


class _Cursor:
    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0

    def skip(self, *words: str) -> str:
        """Skip white space and one of ``words``; return that word."""
        end = min(len(self._text), MAX_HEAD_CHARACTERS)
        while self.position < end and self._text[self.position] in _SPACE:
            self.position += 1
        rest = self._text[self.position : MAX_HEAD_CHARACTERS]
        for word in words:
            if rest.startswith(word):
                self.position += len(word)
                return word
        if len(self._text) < MAX_HEAD_CHARACTERS and any(word.startswith(rest) for word in words):
            raise UnfinishedError
        raise NotAHeadError


def depth_of(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            child
            for parent in level
            if isinstance(parent, (dict, list))
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth
