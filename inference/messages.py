"""Every record that crosses a process border, frozen, as MessagePack on the wire.

    web ── Generation | Embedding ──► queue ──► host
    web ── Cancel | Drain ──────────► control list of a host
    host ── Started, Delta…, Finished | Failed ──► token stream ──► web

A run of several models has a stream of its own, with ``Phase`` frames; the web process writes it.
A token stream is numbered from 1 without gaps and ends in exactly one ``Finished`` or ``Failed``.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

# llama.cpp takes the one seed of 32 bits above these for "draw a seed at random".
SEEDS = 2**32 - 1
FinishReason = Literal["stop", "length", "cancelled", "partial"]
Kind = Literal["chat", "completion", "embedding"]


class Record(msgspec.Struct, frozen=True, tag=True, array_like=True, omit_defaults=True):
    """Base: tagged with its class name, encoded as an array to stay small."""


class SamplingParameters(
    msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How the next token is chosen; ranges are checked before a record is made.

    ``top_k`` 0 and ``seed`` None mean off. ``logit_bias`` maps token ids to an addend in logits.
    Append new fields at the end: hosts of another release read the fields by position, and cannot
    read an item that sets a field they do not know.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_penalty: float = 1.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}


class Generation(Record, frozen=True):
    """One prompt → one token stream on one model version.

    ``max_tokens`` and the prompt together fit the context: admission has checked it.
    ``emitted_token_ids`` are tokens the client already has when a generation is continued after
    its host died; ``crashes`` counts the hosts that died under it. ``grammar`` is what the answer
    must match, in Lark as llguidance reads it; ``cache_salt`` separates tenants: a prefix is shared
    only between generations of the same salt. ``traceparent`` is the span of the request.
    ``weights`` identifies the file that the answer must come from to be cached.
    """

    id: str
    version_key: str
    prompt_token_ids: list[int]
    max_tokens: int
    sampling: SamplingParameters = SamplingParameters()
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    priority: int = 2
    ignore_eos: bool = False
    emitted_token_ids: list[int] = []
    emitted_frames: int = 0
    crashes: int = 0
    grammar: str = ""
    cache_salt: str = ""
    traceparent: str = ""
    weights: str = ""


class Embedding(Record, frozen=True):
    """Texts, tokenised, whose vectors are wanted; answered by one ``Vectors`` frame."""

    id: str
    version_key: str
    inputs: list[list[int]]
    priority: int = 3
    emitted_frames: int = 0
    crashes: int = 0
    traceparent: str = ""


WorkItem = Generation | Embedding


class Cancel(Record, frozen=True):
    """Stop this generation at the next step."""

    id: str


class Drain(Record, frozen=True):
    """Finish what runs, claim nothing more, then end."""


Control = Cancel | Drain


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token with the natural logarithm of its probability before any sampling change.

    ``text_offset`` is the number of characters of the answer before it; a token that ends or
    continues a character has the offset of that character.
    """

    token: str
    token_bytes: bytes
    logprob: float
    top: list[tuple[str, bytes, float]] = []
    text_offset: int = 0


def item_ids_of(run_id: str, attempt: int, choices: int) -> list[str]:
    """Ids of the generations of an attempt at an answer, in the order of its choices."""
    name = f"{run_id}-{attempt}" if attempt else run_id
    return [f"{name}.{index}" for index in range(choices)]


def run_id_of(item_id: str) -> str:
    """The run of a generation: ``item_ids_of`` backwards. A run's id has one hyphen."""
    return "-".join(item_id.rpartition(".")[0].split("-")[:2])


class RunHeader(msgspec.Struct, frozen=True):
    """The facts about a run that are known at its start; kept in Redis for resume and stop.

    ``call_syntax`` tells how its answers write calls of tools, encoded; "" without tools.
    ``deprecation`` is the notice about a deprecated version, or "". ``attempt`` counts from 0.
    ``mode`` is that of several models; "" where one answers.
    """

    id: str
    kind: Kind
    user_id: int
    model: str
    version_key: str
    created_unix_seconds: int
    choices: int
    choices_per_prompt: int = 1
    include_usage: bool = False
    with_logprobs: bool = False
    call_syntax: str = ""
    deprecation: str = ""
    attempt: int = 0
    mode: str = ""

    @property
    def item_ids(self) -> list[str]:
        """Ids of the run's generations, in the order of its choices."""
        return item_ids_of(self.id, self.attempt, self.choices)


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of one generation.

    ``cached_tokens`` is the part of the prompt not recomputed. Of ``drafted_tokens`` guessed ahead,
    ``accepted_tokens`` were what the model itself would have said. The computed tokens are the work
    of the host that sends the frame: prompt tokens that it computed, each time anew, and tokens
    that it sampled. Tokens from caches or from an earlier host are not among them. Of
    ``completion_tokens``, ``hidden_tokens`` are not in the answer, which several models have made.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    computed_prompt_tokens: int = 0
    computed_completion_tokens: int = 0
    hidden_tokens: int = 0


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Seconds of a generation on the host that ended it, by its monotonic clock.

    ``queue_seconds`` is all its time in the queue, also after an earlier host died.
    ``device_seconds`` is its part, by tokens, of the time of each step.
    """

    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    device_seconds: float = 0.0


class Started(Record, frozen=True):
    """The host has begun; sent once, also when the generation is later continued elsewhere."""

    prompt_tokens: int
    cached_tokens: int = 0


class Delta(Record, frozen=True):
    """New tokens. ``text`` may be empty while bytes or a possible stop string are held back."""

    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob] = []


class Vectors(Record, frozen=True):
    """Embedding vectors as little-endian float32 rows of ``dimensions`` values each.

    ``host`` is the launch that has computed them.
    """

    dimensions: int
    data: bytes
    prompt_tokens: int
    host: str = ""


class Phase(Record, frozen=True):
    """An event in a run of several models, as docs/modes.md describes them."""

    event: dict[str, Any]


class Finished(Record, frozen=True):
    """The last frame of a stream that went well or was cancelled.

    ``summary`` has the fields that an answer of several models has besides OpenAI's.
    """

    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    summary: dict[str, Any] = {}


class Failed(Record, frozen=True):
    """The last frame of a stream that went wrong.

    ``code`` is one of ``inference.errors``; ``retry_after_seconds`` tells when a retry may succeed,
    None where that is unknown. ``usage`` has the tokens that the client already has; None: unknown.
    """

    code: str
    message: str
    retry_after_seconds: float | None = None
    usage: Usage | None = None
    timings: Timings = Timings()


Frame = Started | Delta | Phase | Vectors | Finished | Failed
TERMINAL = (Finished, Failed)

_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(Frame)
_work_decoder = msgspec.msgpack.Decoder(WorkItem)
_control_decoder = msgspec.msgpack.Decoder(Control)
_header_decoder = msgspec.msgpack.Decoder(RunHeader)


def encode(record: Record | RunHeader) -> bytes:
    """MessagePack bytes of a record."""
    return _encoder.encode(record)


def failed_parts(failed: Failed, usage: Usage) -> tuple[bytes, bytes]:
    """A ``Failed`` frame up to its usage, and the rest, which depends on the usage alone."""
    rest = _encoder.encode(usage) + _encoder.encode(Timings())
    whole = _encoder.encode(msgspec.structs.replace(failed, usage=usage, timings=Timings()))
    return whole.removesuffix(rest), rest


def decode_frame(data: bytes) -> Frame:
    """The frame in ``data``. Raises ``msgspec.DecodeError`` when it is none."""
    return _frame_decoder.decode(data)


def decode_work(data: bytes) -> WorkItem:
    """The work item in ``data``. Raises ``msgspec.DecodeError`` when it is none."""
    return _work_decoder.decode(data)


def decode_control(data: bytes) -> Control:
    """The control message in ``data``. Raises ``msgspec.DecodeError`` when it is none."""
    return _control_decoder.decode(data)


def decode_header(data: bytes) -> RunHeader:
    """The header in ``data``. Raises ``msgspec.DecodeError`` when it is none."""
    return _header_decoder.decode(data)


def as_hit(frame: Frame) -> Frame:
    """Return a last frame as a reader without the computed tokens gets it: its prompt is cached."""
    if not isinstance(frame, TERMINAL) or frame.usage is None:
        return frame
    prompt, completion = frame.usage.prompt_tokens, frame.usage.completion_tokens
    usage = Usage(prompt, completion, cached_tokens=prompt)
    return msgspec.structs.replace(frame, usage=usage, timings=Timings())


def frame_for(reader_id: str, fields: Mapping[bytes, bytes]) -> Frame:
    """The frame in an entry of a stream, as this reader has it: see ``as_hit``."""
    frame = decode_frame(fields[b"f"])
    return frame if fields.get(b"o", reader_id.encode()) == reader_id.encode() else as_hit(frame)
