"""Separate content and tool calls in an answer while it is generated: pure.

A call that the run's grammar guarantees is passed on at once. Other text that looks like a call is
held back until it is a complete and valid call, or cannot become one.
"""

from dataclasses import dataclass

import msgspec

from inference.orders.tools.json_scan import NotAHeadError, ObjectEnd, UnfinishedError, read_head
from inference.orders.tools.syntax import CallSyntax

_ARGUMENTS_KEYS = ("arguments", "parameters")
_BETWEEN_CALLS = " \t\r\n;,"
# Small models often write a call as a code block.
_FENCE, _FENCE_END = "```json", "```"


@dataclass(frozen=True)
class Content:
    text: str


@dataclass(frozen=True)
class CallBegun:
    name: str


@dataclass(frozen=True)
class ArgumentsText:
    text: str


@dataclass(frozen=True)
class CallEnded:
    """End of a complete call."""


Event = Content | CallBegun | ArgumentsText | CallEnded


class CallParser:
    """Reads one answer. A state is a method that returns False when it needs more text."""

    def __init__(self, syntax: CallSyntax) -> None:
        self._tools = syntax.tools
        self._spelling = syntax.spelling
        self._state = self._read_text
        self._rest = ""  # text not read yet
        self._events: list[Event] = []
        # White space at the beginning of an answer; it is content only if other content follows.
        self._leading: str | None = ""
        self._line_is_blank = True
        self._at_start = True
        # State of the call that is being read.
        self._tag = ""
        self._closing = self._spelling.closing
        self._is_guaranteed = False
        self._has_guaranteed_call = False
        self._name = ""
        self._arguments_start = 0
        self._scanned = 0
        self._end = ObjectEnd()
        self._expects_brace = False

    def feed(self, text: str) -> list[Event]:
        self._rest += text
        while self._rest and self._state():
            pass
        return self._taken()

    def close(self) -> list[Event]:
        """The last events: held text is content, except a further call cut before its name."""
        follows_call = self._is_guaranteed and self._has_guaranteed_call
        is_cut = self._state == self._read_head and follows_call
        if not is_cut and self._state in (self._read_text, self._read_head, self._read_whole):
            self._emit(self._tag + self._rest)
        if self._leading:
            self._events.append(Content(self._leading))
        self._rest = self._tag = self._leading = ""
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read_text(self) -> bool:
        """Read content up to a possible beginning of a call."""
        for index, character in enumerate(self._rest):
            for tag in self._tags_at(character):
                begun = self._rest[index : index + len(tag)]
                if begun == tag:
                    self._emit_until(index)
                    self._rest = self._rest[len(tag) :]
                    self._begin(tag, guaranteed=tag == self._spelling.opening)
                    return True
                if tag.startswith(begun):
                    self._emit_until(index)
                    return False
            if character == "{" and self._line_is_blank:
                at_start = self._at_start and index == 0
                self._emit_until(index)
                self._begin("", guaranteed=at_start and self._spelling.opening_optional)
                return True
            if character == "\n":
                self._line_is_blank = True
            elif not character.isspace():
                self._line_is_blank = False
        self._emit_until(len(self._rest))
        return False

    def _tags_at(self, character: str) -> list[str]:
        opening = self._spelling.opening
        tags = [opening] if opening and character == opening[0] else []
        return [*tags, _FENCE] if self._line_is_blank and character == _FENCE[0] else tags

    def _emit_until(self, index: int) -> None:
        self._emit(self._rest[:index])
        self._rest = self._rest[index:]

    def _begin(self, tag: str, *, guaranteed: bool) -> None:
        self._tag = tag
        if tag:
            self._closing = _FENCE_END if tag == _FENCE else self._spelling.closing
        self._is_guaranteed = guaranteed
        self._state = self._read_head

    def _read_head(self) -> bool:
        """Read a call up to the opening brace of its arguments."""
        try:
            self._name, start = read_head(self._rest, self._tools, _ARGUMENTS_KEYS)
        except UnfinishedError:
            return False
        except NotAHeadError:
            self._reject_call()
            return True
        written = self._rest[:start].removeprefix(self._spelling.after_opening if self._tag else "")
        self._end = ObjectEnd()
        if self._is_guaranteed and written == self._spelling.head(self._name):
            self._call_begins()
            self._has_guaranteed_call = True
            self._rest = self._rest[start:]
            self._state = self._read_arguments
        else:
            self._is_guaranteed = False
            self._arguments_start = start
            self._scanned = 0
            self._state = self._read_whole
        return True

    def _read_arguments(self) -> bool:
        """Pass on the arguments of a guaranteed call."""
        end = self._end.find(self._rest)
        self._events.append(ArgumentsText(self._rest[:end]))
        self._rest = "" if end is None else self._rest[end:]
        if end is not None:
            self._call_ends(expects_brace=True)
        return end is not None

    def _read_whole(self) -> bool:
        """Hold back text that looks like a call until it is complete."""
        end = self._end.find(self._rest, self._scanned)
        self._scanned = len(self._rest)
        if end is None:
            return False
        arguments = _valid_arguments(self._rest[:end], self._arguments_start)
        if arguments is None:
            self._reject_call()
            return True
        self._rest = self._rest[end:]
        self._call_begins()
        self._events.append(ArgumentsText(arguments))
        self._call_ends(expects_brace=False)
        return True

    def _read_between(self) -> bool:
        """Skip the closing brace, the closing tag and the separators after a call."""
        closing = self._closing
        while self._rest:
            if self._expects_brace and self._rest[0] == "}":
                self._expects_brace = False
                self._rest = self._rest[1:]
            elif self._rest[0] in _BETWEEN_CALLS:
                self._rest = self._rest[1:]
            elif closing and self._rest.startswith(closing):
                self._rest = self._rest[len(closing) :]
            elif closing.startswith(self._rest):
                return False
            else:
                self._line_is_blank = True
                self._at_start = self._is_guaranteed
                self._state = self._read_text
                return True
        return False

    def _call_begins(self) -> None:
        self._leading = None
        self._tag = ""
        self._events.append(CallBegun(self._name))

    def _call_ends(self, *, expects_brace: bool) -> None:
        self._events.append(CallEnded())
        self._expects_brace = expects_brace
        self._state = self._read_between

    def _reject_call(self) -> None:
        """Emit the tag, or else the brace, as content and go on after it."""
        text = self._tag or self._rest[0]
        if not self._tag:
            self._rest = self._rest[1:]
        self._tag = ""
        self._line_is_blank = False
        self._emit(text)
        self._state = self._read_text

    def _emit(self, text: str) -> None:
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
    end = ObjectEnd().find(call, start)
    try:
        msgspec.json.decode(call)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return call[start:end]
