"""The client's side of OpenAI's protocol: SSE lines to frames, with only the needed fields.

The load generator shares its cores with the measured server, so parsing is kept cheap: one pass
over each read, one typed decode for each frame.
"""

from typing import Any

import msgspec

DONE = b"[DONE]"


class Delta(msgspec.Struct):
    """A piece of an answer, or the whole message when the answer is not streamed."""

    content: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct):
    """One choice of a frame; ``text`` is the form of text completions."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def content(self) -> str:
        """The answer's text in this frame, whatever the endpoint."""
        part = self.delta or self.message
        return (part.content if part is not None else self.text) or ""

    @property
    def reasoning(self) -> str:
        """Reasoning that some servers send apart from the answer."""
        part = self.delta or self.message
        return (part.reasoning_content if part is not None else None) or ""


class PromptDetails(msgspec.Struct):
    """The cached part of the prompt."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as the server reports them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens served from a cache; 0 when the server does not say."""
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0


class ErrorBody(msgspec.Struct):
    """The ``error`` object; ``code`` is a number with some servers."""

    message: str = ""
    code: str | int | None = None
    type: str | None = None


class Frame(msgspec.Struct):
    """One ``data:`` payload of a stream, or a whole answer."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: ErrorBody | str | None = None
    orchestration: dict[str, Any] | None = None


class Replica(msgspec.Struct):
    """One copy of a model, in Brigade's ``GET /v1/models/{id}``."""

    state: str = ""


class ModelState(msgspec.Struct):
    """Brigade's description of a model; other servers have none."""

    replicas: list[Replica] = []

    @property
    def in_memory(self) -> bool:
        """Whether any replica is loaded, loading or draining."""
        return any(replica.state not in ("stopped", "failed") for replica in self.replicas)


_DECODER = msgspec.json.Decoder(Frame)


def decode_frame(payload: bytes) -> Frame:
    """Decode one frame or answer.

    Raises:
        msgspec.DecodeError: it is not JSON, or a known field has the wrong type.
    """
    return _DECODER.decode(payload)


def error_code_and_message(error: ErrorBody | str) -> tuple[str, str]:
    """Return code and message of an error object; without a code, its type."""
    if isinstance(error, str):
        return "", error
    return str(error.code or error.type or ""), error.message


class EventSplitter:
    """Cuts an SSE byte stream into the payloads of its ``data:`` lines.

    Each line is one payload, as all servers of this protocol write it; comment lines (heartbeats)
    and other fields are skipped. A line may be split over several reads.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the bytes of one read and return the payloads that it completed."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def request_body(
    *,
    endpoint: str,
    model: str,
    messages: list[dict[str, str]],
    max_tokens: int | None,
    temperature: float | None,
    stream: bool,
    priority: int | None,
) -> bytes:
    """Return the JSON body of a request, without fields that are None.

    A text completion has the messages' texts as one prompt, with blank lines between them.
    """
    body: dict[str, Any] = {"model": model}
    if endpoint == "chat":
        body["messages"] = messages
    else:
        body["prompt"] = "\n\n".join(message["content"] for message in messages)
    optional = {"max_tokens": max_tokens, "temperature": temperature, "priority": priority}
    body |= {name: value for name, value in optional.items() if value is not None}
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)
