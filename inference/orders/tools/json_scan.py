"""Reading JSON that is still being written, and measuring it: pure."""

from collections.abc import Sequence
from typing import Any

# Longer than any head that is meant as one: a tool's name has 64 characters at most.
MAX_HEAD_CHARACTERS = 400
_SPACE = " \t\r\n"


class ObjectEnd:
    """Finds the end of a JSON object, character by character."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, text: str, start: int = 0) -> int | None:
        """Index after the closing brace; None when it lies beyond ``text``.

        Args:
            text: what follows on the text of the call before.
            start: where in it to begin.
        """
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
    """The text is no beginning of a call, whatever may follow."""


class UnfinishedError(Exception):
    """The text may become the beginning of a call."""


def read_head(text: str, names: Sequence[str], arguments_keys: Sequence[str]) -> tuple[str, int]:
    """Read ``{"name": "…", "arguments": {`` off the beginning of ``text``.

    Args:
        text: a call, as far as it is written.
        names: tools that there are.
        arguments_keys: names of the arguments' field.

    Returns:
        The tool's name, and the index of the arguments' opening brace.

    Raises:
        NotAHeadError, UnfinishedError: it is none, or not all of it is there.
    """
    cursor = _Cursor(text)
    cursor.skip("{")
    # Llama 3.1 likes to say the type first.
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
        """Pass white space and one of ``words``, which is returned."""
        while self._text[self.position : self.position + 1] in _SPACE and self._more():
            self.position += 1
        rest = self._text[self.position : MAX_HEAD_CHARACTERS]
        for word in words:
            if rest.startswith(word):
                self.position += len(word)
                return word
        if len(self._text) < MAX_HEAD_CHARACTERS and any(word.startswith(rest) for word in words):
            raise UnfinishedError
        raise NotAHeadError

    def _more(self) -> bool:
        return self.position < min(len(self._text), MAX_HEAD_CHARACTERS)


def depth_of(value: Any) -> int:
    """How deep lists and objects nest, counted without recursion."""
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
