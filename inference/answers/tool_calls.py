"""Answers with tool calls as OpenAI's response objects: pure.

A frame makes at most one chunk, because streams are resumed after the last frame seen.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from inference.answers.openai import Answer, ChatFormat, finish_reason
from inference.answers.parser import (
    ArgumentsText,
    CallBegun,
    CallEnded,
    CallParser,
    Content,
    Event,
)
from inference.messages import Delta, Finished, FinishReason, Frame, RunHeader, TokenLogprob
from inference.orders.tools.syntax import decoded

_STRING_OR_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*"?)|\s+', re.DOTALL)


def call_id(run_id: str, choice: int, index: int) -> str:
    """A unique id that is the same each time the run is read."""
    place = f"{run_id}.{choice}.{index}".encode()
    return f"call_{hashlib.sha256(place).hexdigest()[:24]}"


@dataclass
class CallReader:
    """Reads the content and the calls of one choice.

    A repeated call ends the answer, because a small model may repeat itself without end. So a call
    is held back while it may still become a repetition.
    """

    run_id: str
    choice: int
    parser: CallParser
    calls: int = 0
    finished_calls: int = 0
    has_repeated: bool = False
    logprobs: list[TokenLogprob] = field(default_factory=list)
    _made: list[tuple[str, str]] = field(default_factory=list)
    _call: tuple[str, str] = ("", "")
    _held: list[Event] = field(default_factory=list)

    def take(self, frame: Delta) -> dict[str, Any]:
        """The ``delta`` of a frame: ``content`` and ``tool_calls``, each only if not empty."""
        return self._delta(self.parser.feed(frame.text))

    def close(self) -> dict[str, Any]:
        return self._delta(self.parser.close(), is_last=True)

    def read(self, text: str) -> dict[str, Any]:
        return self._delta(self.parser.feed(text) + self.parser.close(), is_last=True)

    def reason(self, reason: FinishReason) -> str:
        """``finish_reason``: ``tool_calls`` only if every call of the answer is complete."""
        all_complete = reason == "stop" and 0 < self.calls == self.finished_calls
        return "tool_calls" if self.has_repeated or all_complete else finish_reason(reason)

    def _delta(self, events: list[Event], *, is_last: bool = False) -> dict[str, Any]:
        content: list[str] = []
        calls: dict[int, dict[str, Any]] = {}
        shown = list(self._without_repeats(events))
        if is_last:
            shown += self._held
        for event in shown:
            match event:
                case Content(text):
                    content.append(text)
                case CallBegun(name):
                    calls[self.calls] = {
                        "index": self.calls,
                        "id": call_id(self.run_id, self.choice, self.calls),
                        "type": "function",
                        "function": {"name": name, "arguments": ""},
                    }
                    self.calls += 1
                case ArgumentsText(text):
                    index = self.calls - 1
                    entry = calls.setdefault(index, {"index": index, "function": {"arguments": ""}})
                    entry["function"]["arguments"] += text
                case CallEnded():
                    self.finished_calls += 1
        delta: dict[str, Any] = {"content": "".join(content)} if content else {}
        if calls:
            delta["tool_calls"] = list(calls.values())
        return delta

    def _without_repeats(self, events: list[Event]) -> Iterator[Event]:
        """The events before the first repeated call; a possible repetition is held back."""
        for event in events:
            if self.has_repeated:
                return
            self._held.append(event)
            if isinstance(event, CallBegun):
                self._call = (event.name, "")
            elif isinstance(event, ArgumentsText):
                self._call = (self._call[0], self._call[1] + event.text)
            name, arguments = self._call
            earlier = [made for called, made in self._made if called == name]
            compact = _without_blanks(arguments) if earlier else ""
            if isinstance(event, CallEnded):
                self.has_repeated = compact in earlier
                self._made.append((name, _without_blanks(arguments)))
                self._call = ("", "")
            elif any(made.startswith(compact) for made in earlier):
                continue
            if not self.has_repeated:
                yield from self._held
            self._held = []


def _without_blanks(arguments: str) -> str:
    """JSON text, possibly incomplete, without the blanks between its tokens."""
    return _STRING_OR_BLANKS.sub(r"\1", arguments)


def readers_of(header: RunHeader) -> list[CallReader]:
    syntax = decoded(header.call_syntax)
    return [CallReader(header.id, choice, CallParser(syntax)) for choice in range(header.choices)]


class RepeatedCalls:
    """Detects the first repeated call of each choice of a run."""

    def __init__(self, call_syntax: str) -> None:
        self._syntax = decoded(call_syntax)
        self._readers: dict[int, CallReader] = {}

    def __call__(self, choice: int, frame: Frame) -> bool:
        """Whether ``frame`` completes the first repeated call of its choice."""
        if not isinstance(frame, Delta):
            return False
        if choice not in self._readers:
            self._readers[choice] = CallReader("", choice, CallParser(self._syntax))
        reader = self._readers[choice]
        had_repeated = reader.has_repeated
        reader.take(frame)
        return reader.has_repeated and not had_repeated


def chat_format(header: RunHeader) -> ChatFormat:
    return ToolChatFormat(header) if header.call_syntax else ChatFormat(header)


class ToolChatFormat(ChatFormat):
    def __init__(self, header: RunHeader) -> None:
        super().__init__(header)
        self._readers = readers_of(header)

    def opening(self, choice: int) -> dict[str, Any]:
        # It is not known yet whether there will be content.
        return self._delta_chunk(choice, {"role": "assistant", "content": None})

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        reader = self._readers[choice]
        reader.logprobs.extend(frame.logprobs)
        delta = reader.take(frame)
        return self._reader_chunk(reader, delta) if delta else None

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        reader = self._readers[choice]
        chunk = self._reader_chunk(reader, reader.close(), reader.reason(frame.reason))
        return chunk | frame.summary

    def _reader_chunk(
        self, reader: CallReader, delta: dict[str, Any], reason: str | None = None
    ) -> dict[str, Any]:
        # Only content has log-probabilities; those of calls are left out.
        entries, reader.logprobs = reader.logprobs, []
        logprobs = self._logprobs(entries) if "content" in delta else None
        return self._delta_chunk(reader.choice, delta, logprobs=logprobs, reason=reason)

    def _whole_choice(self, index: int, answer: Answer) -> dict[str, Any]:
        reader = self._readers[index]
        delta = reader.read("".join(answer.text))
        calls = delta.get("tool_calls", [])
        content = delta.get("content", None if calls else "")
        message = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["tool_calls"] = [
                {key: value for key, value in call.items() if key != "index"} for call in calls
            ]
        shown = _logprobs_of(content or "", answer.logprobs) if calls else answer.logprobs
        return {
            "index": index,
            "message": message,
            "logprobs": None if content is None else self._logprobs(shown),
            "finish_reason": reader.reason(answer.reason),
        }


def _logprobs_of(content: str, logprobs: list[TokenLogprob]) -> list[TokenLogprob]:
    """The entries of an answer's first tokens, up to the end of ``content``."""
    missing = len(content.encode())
    shown = []
    for entry in logprobs:
        if missing <= 0:
            break
        shown.append(entry)
        missing -= len(entry.token_bytes)
    return shown
