"""Answers with calls as OpenAI's objects: pure.

One frame makes one chunk at most, whatever it completes: a client that was cut off goes on after
the last frame it has seen, and would lose the second of two.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from inference.answers.openai import Answer, ChatFormat, finish_reason, usage_object
from inference.answers.parser import (
    ArgumentsText,
    CallBegun,
    CallEnded,
    CallParser,
    Content,
    Event,
)
from inference.messages import Delta, Finished, FinishReason, Frame, RunHeader, TokenLogprob, Usage
from inference.orders.tools.syntax import decoded

_STRING_OR_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*"?)|\s+', re.DOTALL)


def call_id(run_id: str, choice: int, index: int) -> str:
    """The id of a call: the same each time the run is read, and like no other's."""
    place = f"{run_id}.{choice}.{index}".encode()
    return f"call_{hashlib.sha256(place).hexdigest()[:24]}"


@dataclass
class CallReader:
    """Content and calls of one choice, as its frames come.

    An answer ends where it would make a call again that it has made: a small model may not find
    another end. So a call is held back for as long as it is the beginning of an earlier one.
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
        """The ``delta`` of a frame, with ``content`` and ``tool_calls`` where it has them."""
        return self._delta(self.parser.feed(frame.text))

    def close(self) -> dict[str, Any]:
        """The ``delta`` of what was held back until the end."""
        return self._delta(self.parser.close(), is_last=True)

    def read(self, text: str) -> dict[str, Any]:
        """All of an answer as one ``delta``."""
        return self._delta(self.parser.feed(text) + self.parser.close(), is_last=True)

    def reason(self, reason: FinishReason) -> str:
        """``finish_reason``: an answer that ended by itself after whole calls ended with them."""
        if self.has_repeated:
            return "tool_calls"
        if reason == "stop" and self.calls and self.calls == self.finished_calls:
            return "tool_calls"
        return finish_reason(reason)

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
                    calls[self.calls] = self._begun(name)
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
        """The events up to a call that was made before; the beginning of one is held back."""
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
            plain = _without_blanks(arguments) if earlier else ""
            if isinstance(event, CallEnded):
                self.has_repeated = plain in earlier
                self._made.append((name, _without_blanks(arguments)))
                self._call = ("", "")
            elif any(made.startswith(plain) for made in earlier):
                continue
            if not self.has_repeated:
                yield from self._held
            self._held = []

    def _begun(self, name: str) -> dict[str, Any]:
        return {
            "index": self.calls,
            "id": call_id(self.run_id, self.choice, self.calls),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }


def _without_blanks(arguments: str) -> str:
    """JSON text, which may be cut, without the blanks between its tokens."""
    return _STRING_OR_BLANKS.sub(r"\1", arguments)


def readers_of(header: RunHeader) -> list[CallReader]:
    """A reader for each choice of a run that has tools."""
    syntax = decoded(header.call_syntax)
    return [CallReader(header.id, choice, CallParser(syntax)) for choice in range(header.choices)]


class RepeatedCalls:
    """Tells of each choice of a run when it has made a call again, once."""

    def __init__(self, call_syntax: str) -> None:
        self._syntax = decoded(call_syntax)
        self._readers: dict[int, CallReader] = {}

    def __call__(self, choice: int, frame: Frame) -> bool:
        """True for the frame that completes the first such call of its choice."""
        if not isinstance(frame, Delta):
            return False
        if choice not in self._readers:
            self._readers[choice] = CallReader("", choice, CallParser(self._syntax))
        reader = self._readers[choice]
        had_repeated = reader.has_repeated
        reader.take(frame)
        return reader.has_repeated and not had_repeated


def chat_format(header: RunHeader) -> ChatFormat:
    """How a chat's answers are written."""
    return ToolChatFormat(header) if header.call_syntax else ChatFormat(header)


class ToolChatFormat(ChatFormat):
    """``chat.completion`` and ``chat.completion.chunk`` of a run that has tools."""

    def __init__(self, header: RunHeader) -> None:
        super().__init__(header)
        self._readers = readers_of(header)

    def opening(self, choice: int) -> dict[str, Any]:
        """The chunk that says who speaks; whether there is content is not known yet."""
        chunk = super().opening(choice)
        chunk["choices"][0]["delta"]["content"] = None
        return chunk

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        """The chunk of new text or calls; None while it is not clear which of them comes."""
        reader = self._readers[choice]
        reader.logprobs.extend(frame.logprobs)
        delta = reader.take(frame)
        if not delta:
            return None
        return self._chunk(self._choice(reader, delta, None))

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        """The chunk with the reason, and with what was held back."""
        reader = self._readers[choice]
        delta = reader.close()
        return self._chunk(self._choice(reader, delta, reader.reason(frame.reason)))

    def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]:
        """The response of a request that is not streamed."""
        choices = [
            self._whole_choice(reader, answer)
            for reader, answer in zip(self._readers, answers, strict=True)
        ]
        return self._envelope(self.object_name, choices) | {"usage": usage_object(usage)}

    def _choice(
        self, reader: CallReader, delta: dict[str, Any], reason: str | None
    ) -> dict[str, Any]:
        """A chunk's choice. Logprobs are of content alone; those of calls are left out."""
        logprobs, reader.logprobs = reader.logprobs, []
        shown = self._logprobs(logprobs) if "content" in delta else None
        return {
            "index": reader.choice,
            "delta": delta,
            "logprobs": shown,
            "finish_reason": reason,
        }

    def _whole_choice(self, reader: CallReader, answer: Answer) -> dict[str, Any]:
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
            "index": reader.choice,
            "message": message,
            "logprobs": None if content is None else self._logprobs(shown),
            "finish_reason": reader.reason(answer.reason),
        }


def _logprobs_of(content: str, logprobs: list[TokenLogprob]) -> list[TokenLogprob]:
    """The entries of the tokens at the beginning of an answer that make up its content."""
    missing = len(content.encode())
    shown = []
    for entry in logprobs:
        if missing <= 0:
            break
        shown.append(entry)
        missing -= len(entry.token_bytes)
    return shown
