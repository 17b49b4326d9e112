"""Frames as OpenAI's objects, as the official SDK reads them: pure.

Streaming rules: ``role`` once in the first chunk of each choice; the same ``id`` and ``created``
in every chunk; the finish chunk has an empty delta; with ``include_usage`` every chunk carries
``"usage": null`` and one last chunk has no choices; the text never repeats.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from inference.messages import Delta, Finished, FinishReason, RunHeader, TokenLogprob, Usage

# OpenAI knows no reason for an answer that was stopped from outside; "stop" is the nearest.
_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "cancelled": "stop"}


def finish_reason(reason: FinishReason) -> str:
    """``finish_reason`` of any response."""
    return _REASONS[reason]


def usage_object(usage: Usage) -> dict[str, Any]:
    """``usage`` of any response."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": usage.drafted_tokens - usage.accepted_tokens,
        },
    }


@dataclass
class Answer:
    """One choice of a response that is not streamed, as it grows."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason = "stop"

    def take(self, frame: Delta | Finished) -> None:
        """Add a frame."""
        if isinstance(frame, Delta):
            self.text.append(frame.text)
            self.logprobs.extend(frame.logprobs)
        else:
            self.reason = frame.reason


class Format(Protocol):
    """How one route writes its answers."""

    def opening(self, choice: int) -> dict[str, Any] | None:
        """The first chunk of a choice, if the route has one."""
        ...

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        """The chunk of a frame; None when there is nothing to show yet."""
        ...

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        """The last chunk of a choice."""
        ...

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The chunk after all choices that carries the usage."""
        ...

    def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]:
        """The response of a request that is not streamed."""
        ...


class _Base:
    object_name = ""
    chunk_name = ""

    def __init__(self, header: RunHeader) -> None:
        self._header = header

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The chunk after all choices that carries the usage."""
        return self._envelope(self.chunk_name, []) | {"usage": usage_object(usage)}

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


class ChatFormat(_Base):
    """``chat.completion`` and ``chat.completion.chunk``."""

    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def opening(self, choice: int) -> dict[str, Any]:
        """The chunk that says who speaks."""
        return self._chunk(
            {
                "index": choice,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        )

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        """The chunk of new text; None while text is held back."""
        if not frame.text and not frame.logprobs:
            return None
        return self._chunk(
            {
                "index": choice,
                "delta": {"content": frame.text},
                "logprobs": self._logprobs(frame.logprobs),
                "finish_reason": None,
            }
        )

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(
            {
                "index": choice,
                "delta": {},
                "logprobs": None,
                "finish_reason": finish_reason(frame.reason),
            }
        )

    def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]:
        """The response of a request that is not streamed."""
        choices = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": "".join(answer.text),
                    "refusal": None,
                },
                "logprobs": self._logprobs(answer.logprobs),
                "finish_reason": finish_reason(answer.reason),
            }
            for index, answer in enumerate(answers)
        ]
        return self._envelope(self.object_name, choices) | {"usage": usage_object(usage)}

    def _logprobs(self, logprobs: list[TokenLogprob]) -> dict[str, Any] | None:
        if not self._header.with_logprobs:
            return None
        return {"content": [_chat_logprob(entry) for entry in logprobs], "refusal": None}


class CompletionFormat(_Base):
    """``text_completion``, streamed or not."""

    object_name = chunk_name = "text_completion"

    def opening(self, choice: int) -> None:
        """Text completions have no opening chunk."""

    def delta(self, choice: int, frame: Delta) -> dict[str, Any] | None:
        """The chunk of new text; None while text is held back."""
        if not frame.text and not frame.logprobs:
            return None
        return self._chunk(self._choice(choice, frame.text, frame.logprobs, None))

    def finish(self, choice: int, frame: Finished) -> dict[str, Any]:
        """The chunk with the reason."""
        return self._chunk(self._choice(choice, "", [], finish_reason(frame.reason)))

    def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]:
        """The response of a request that is not streamed."""
        choices = [
            self._choice(index, "".join(answer.text), answer.logprobs, finish_reason(answer.reason))
            for index, answer in enumerate(answers)
        ]
        return self._envelope(self.object_name, choices) | {"usage": usage_object(usage)}

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


def _chat_logprob(entry: TokenLogprob) -> dict[str, Any]:
    return {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": list(entry.token_bytes),
        "top_logprobs": [
            {"token": token, "logprob": logprob, "bytes": list(data)}
            for token, data, logprob in entry.top
        ],
    }
