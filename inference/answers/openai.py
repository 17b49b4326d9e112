"""Frames of a run as OpenAI's response objects: pure.

Streaming rules of the official SDK: ``role`` only in the first chunk of a choice; the same ``id``
and ``created`` in every chunk; an empty delta in the finish chunk; with ``include_usage``,
``"usage": null`` in every chunk and one last chunk without choices; no text twice.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from inference.messages import (
    Delta,
    Finished,
    FinishReason,
    Phase,
    RunHeader,
    TokenLogprob,
    Usage,
)

# OpenAI has no reason for a cancelled answer; "stop" is the nearest.
_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "cancelled": "stop",
    "partial": "partial",
}


def finish_reason(reason: FinishReason) -> str:
    return _REASONS[reason]


def usage_object(usage: Usage) -> dict[str, Any]:
    hidden = {"reasoning_tokens": usage.hidden_tokens} if usage.hidden_tokens else {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": usage.drafted_tokens - usage.accepted_tokens,
            **hidden,
        },
    }


@dataclass
class Answer:
    """Collects the frames of a choice that is not streamed."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"

    def take(self, frame: Delta | Finished) -> None:
        if isinstance(frame, Delta):
            self.text.append(frame.text)
            self.logprobs.extend(frame.logprobs)
        else:
            self.reason = frame.reason


class Format(ABC):
    object_name = ""
    chunk_name = ""

    def __init__(self, header: RunHeader) -> None:
        self._header = header

    def opening(self, choice: int) -> dict[str, Any] | None:
        """First chunk of a choice; None if the route has none."""
        return None

    @abstractmethod
    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        """Chunk of a frame; None when there is nothing to show yet."""

    @abstractmethod
    def finish(self, choice: int, frame: Finished) -> dict[str, Any]: ...

    def phase(self, frame: Phase) -> dict[str, Any] | None:
        """Chunk of an event in a run of several models; None if the route has none."""
        return None

    def usage(self, usage: Usage) -> dict[str, Any]:
        return self._envelope(self.chunk_name, []) | {"usage": usage_object(usage)}

    def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]:
        choices = [self._whole_choice(index, answer) for index, answer in enumerate(answers)]
        return self._envelope(self.object_name, choices) | {"usage": usage_object(usage)}

    @abstractmethod
    def _whole_choice(self, index: int, answer: Answer) -> dict[str, Any]: ...

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = self._envelope(self.chunk_name, [choice])
        if self._header.include_usage:
            chunk["usage"] = None
        return chunk

    def _envelope(self, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._header.id,
            "object": name,
            "created": self._header.created_unix_seconds,
            "model": self._header.model,
            "system_fingerprint": self._header.version_key,
            "choices": choices,
        }


class ChatFormat(Format):
    """``chat.completion`` and ``chat.completion.chunk``."""

    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def opening(self, choice: int) -> dict[str, Any]:
        return self._delta_chunk(choice, {"role": "assistant", "content": ""})

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        if not frame.text and not frame.logprobs:
            return None
        return self._delta_chunk(
            choice, {"content": frame.text}, logprobs=self._logprobs(frame.logprobs)
        )

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        chunk = self._delta_chunk(choice, {}, reason=finish_reason(frame.reason))
        return chunk | frame.summary

    def phase(self, frame: Phase) -> dict[str, Any]:
        return self._delta_chunk(0, {}) | {"orchestration": frame.event}

    def _delta_chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        return self._chunk(
            {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        )

    def _whole_choice(self, index: int, answer: Answer) -> dict[str, Any]:
        content = "".join(answer.text)
        return {
            "index": index,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": finish_reason(answer.reason),
        }

    def _logprobs(self, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        if not self._header.with_logprobs:
            return None
        content = [
            {
                "token": entry.token,
                "logprob": entry.logprob,
                "bytes": list(entry.token_bytes),
                "top_logprobs": [
                    {"token": token, "logprob": logprob, "bytes": list(data)}
                    for token, data, logprob in entry.top
                ],
            }
            for entry in logprobs
        ]
        return {"content": content, "refusal": None}


class CompletionFormat(Format):
    """``text_completion``, streamed or not."""

    object_name = chunk_name = "text_completion"

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        if not frame.text and not frame.logprobs:
            return None
        return self._chunk(self._choice(choice, frame.text, frame.logprobs, None))

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        return self._chunk(self._choice(choice, "", [], finish_reason(frame.reason)))

    def _whole_choice(self, index: int, answer: Answer) -> dict[str, Any]:
        text = "".join(answer.text)
        return self._choice(index, text, answer.logprobs, finish_reason(answer.reason))

    def _choice(
        self, index: int, text: str, logprobs: list[TokenLogprob], reason: str | None
    ) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(logprobs),
            "finish_reason": reason,
        }

    def _logprobs(self, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        if not self._header.with_logprobs:
            return None
        return {
            "tokens": [entry.token for entry in logprobs],
            "token_logprobs": [entry.logprob for entry in logprobs],
            "top_logprobs": [
                {token: logprob for token, _, logprob in entry.top} for entry in logprobs
            ],
            "text_offset": [entry.text_offset for entry in logprobs],
        }
