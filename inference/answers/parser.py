"""From the text of an answer, as it comes, to what it says and which tools it calls: pure.

A call that the run's grammar vouches for is passed on while it is written. Text that only looks
like one, where the grammar allows any text, is held back until it is whole and valid. What turns
out to be no call is content: nothing is lost, and however the text is cut into pieces, the events
put together are the same.
"""

from dataclasses import dataclass

import msgspec

from inference.orders.tools.json_scan import (
    NotAHeadError,
    ObjectEnd,
    UnfinishedError,
    read_head,
)
from inference.orders.tools.syntax import CallSyntax

_ARGUMENTS_KEYS = ("arguments", "parameters")
_BETWEEN_CALLS = " \t\r\n;,"
# Small models like to show a call as code.
_FENCE, _FENCE_END = "```json", "```"


@dataclass(frozen=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True)
class CallBegun:
    """A call of a tool begins."""

    name: str


@dataclass(frozen=True)
class ArgumentsText:
    """More of the JSON text of the call's arguments."""

    text: str


@dataclass(frozen=True)
class CallEnded:
    """The call is whole."""


Event = Content | CallBegun | ArgumentsText | CallEnded


class CallParser:
    """Reads one answer.

    Each state is a method that eats from the front of the text not understood yet, and returns
    False when it needs more of it.
    """

    def __init__(self, syntax: CallSyntax) -> None:
        self._tools = syntax.tools
        self._spelling = syntax.spelling
        self._state = self._read_text
        self._rest = ""
        self._events: list[Event] = []
        # White space at the beginning of an answer, content only if other content follows.
        self._leading: str | None = ""
        self._line_is_blank = True
        self._at_start = True
        # Of the call being read.
        self._tag = ""
        self._closing = self._spelling.closing
        self._vouched = False
        self._has_vouched_call = False
        self._name = ""
        self._arguments_start = 0
        self._scanned = 0
        self._end = ObjectEnd()
        self._brace_is_due = False

    def feed(self, text: str) -> list[Event]:
        """Events that ``text`` completes."""
        self._rest += text
        while self._rest and self._state():
            pass
        return self._taken()

    def close(self) -> list[Event]:
        """Events of an answer that ends here: what was held back is content after all.

        But for the beginning of one more call, cut before it has a name, where only calls can come.
        """
        is_cut = self._state == self._read_head and self._vouched and self._has_vouched_call
        if not is_cut and self._state in (self._read_text, self._read_head, self._read_whole):
            self._say(self._tag + self._rest)
        if self._leading:
            self._events.append(Content(self._leading))
        self._rest = self._tag = self._leading = ""
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read_text(self) -> bool:
        """Content, up to where a call may begin."""
        for index, character in enumerate(self._rest):
            for tag in self._tags_at(character):
                begun = self._rest[index : index + len(tag)]
                if begun == tag:
                    self._say_until(index)
                    self._rest = self._rest[len(tag) :]
                    self._begin(tag, vouched=tag == self._spelling.opening)
                    return True
                if tag.startswith(begun):
                    self._say_until(index)
                    return False
            if character == "{" and self._line_is_blank:
                at_start = self._at_start and index == 0
                self._say_until(index)
                self._begin("", vouched=at_start and self._spelling.opening_optional)
                return True
            if character == "\n":
                self._line_is_blank = True
            elif not character.isspace():
                self._line_is_blank = False
        self._say_until(len(self._rest))
        return False

    def _tags_at(self, character: str) -> list[str]:
        """Tags that may begin with a character in this place."""
        opening = self._spelling.opening
        tags = [opening] if opening and character == opening[0] else []
        return [*tags, _FENCE] if self._line_is_blank and character == _FENCE[0] else tags

    def _say_until(self, index: int) -> None:
        self._say(self._rest[:index])
        self._rest = self._rest[index:]

    def _begin(self, tag: str, *, vouched: bool) -> None:
        self._tag = tag
        if tag:
            self._closing = _FENCE_END if tag == _FENCE else self._spelling.closing
        self._vouched = vouched
        self._state = self._read_head

    def _read_head(self) -> bool:
        """The call as far as its arguments' opening brace."""
        try:
            self._name, start = read_head(self._rest, self._tools, _ARGUMENTS_KEYS)
        except UnfinishedError:
            return False
        except NotAHeadError:
            self._no_call()
            return True
        written = self._rest[:start].removeprefix(self._spelling.after_opening if self._tag else "")
        self._end = ObjectEnd()
        if self._vouched and written == self._spelling.head(self._name):
            self._call_begins()
            self._has_vouched_call = True
            self._rest = self._rest[start:]
            self._state = self._read_arguments
        else:
            self._vouched = False
            self._arguments_start = start
            self._scanned = 0
            self._state = self._read_whole
        return True

    def _read_arguments(self) -> bool:
        """Arguments of a call that the grammar vouches for, as they come."""
        end = self._end.find(self._rest)
        self._events.append(ArgumentsText(self._rest[:end]))
        self._rest = "" if end is None else self._rest[end:]
        if end is not None:
            self._call_ends(brace_is_due=True)
        return end is not None

    def _read_whole(self) -> bool:
        """A call that only looks like one, until it is whole."""
        end = self._end.find(self._rest, self._scanned)
        self._scanned = len(self._rest)
        if end is None:
            return False
        arguments = _valid_arguments(self._rest[:end], self._arguments_start)
        if arguments is None:
            self._no_call()
            return True
        self._rest = self._rest[end:]
        self._call_begins()
        self._events.append(ArgumentsText(arguments))
        self._call_ends(brace_is_due=False)
        return True

    def _read_between(self) -> bool:
        """What stands after a call, as far as it is only that."""
        closing = self._closing
        while self._rest:
            if self._brace_is_due and self._rest[0] == "}":
                self._brace_is_due = False
                self._rest = self._rest[1:]
            elif self._rest[0] in _BETWEEN_CALLS:
                self._rest = self._rest[1:]
            elif closing and self._rest.startswith(closing):
                self._rest = self._rest[len(closing) :]
            elif closing.startswith(self._rest):
                return False
            else:
                self._line_is_blank = True
                self._at_start = self._vouched
                self._state = self._read_text
                return True
        return False

    def _call_begins(self) -> None:
        self._leading = None
        self._tag = ""
        self._events.append(CallBegun(self._name))

    def _call_ends(self, *, brace_is_due: bool) -> None:
        self._events.append(CallEnded())
        self._brace_is_due = brace_is_due
        self._state = self._read_between

    def _no_call(self) -> None:
        """Take the tag, or else the brace, for content, and read on behind it."""
        text = self._tag or self._rest[0]
        if not self._tag:
            self._rest = self._rest[1:]
        self._tag = ""
        self._line_is_blank = False
        self._say(text)
        self._state = self._read_text

    def _say(self, text: str) -> None:
        if not text:
            return
        self._at_start = False
        if self._leading is not None:
            self._leading += text
            if not self._leading.strip():
                return
            text, self._leading = self._leading, None
        self._events.append(Content(text))


def _valid_arguments(call: str, start: int) -> str | None:
    """The arguments' text in a whole call; None when the call is not valid JSON."""
    end = ObjectEnd().find(call, start)
    try:
        msgspec.json.decode(call)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return call[start:end]
