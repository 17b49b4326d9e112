"""The facts of a request that are known when it is accepted, and its record when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from inference.messages import Failed, Finished, Kind, Usage
from metrics.ledger.cost import Rates, cost_nano
from metrics.ledger.entry import Entry
from metrics.models import DimensionName, RequestRecord, RequestStep
from models_registry.rules.price import Price, price_at

_MICROSECONDS = 1_000_000
_NOTHING = Usage(0, 0)
_encoder = msgspec.msgpack.Encoder()


class Admission(msgspec.Struct, frozen=True, omit_defaults=True):
    """Facts for the record; kept in Redis until Postgres has it.

    ``item_ids`` name the streams of the request's choices; ``choices_per_prompt`` is as in
    ``RunHeader``. One of ``prices`` is in force at the moment of admission, or none.
    """

    run_id: str
    kind: Kind
    user_id: int
    version_key: str
    item_ids: list[str]
    choices_per_prompt: int = 1
    user_name: str = ""
    key_id: int | None = None
    key_name: str = ""
    team_id: int | None = None
    team_name: str = ""
    request_id: str = ""
    end_user: str = ""
    requested_model: str = ""
    preset: str = ""
    priority: int = 2
    streamed: bool = False
    prices: tuple[Price, ...] = ()

    def encode(self) -> bytes:
        return _encoder.encode(self)


decode_admission = msgspec.msgpack.Decoder(Admission).decode


@dataclass(frozen=True)
class Ending:
    """How an accepted request ended.

    Attributes:
        frames: the last frame of each choice; None where there is none.
        settled_at: now.
        total_us, ttft_us: from admission, as the caller saw it; None: from the frames' timings.
        error_code: of an error that is in no frame.
    """

    frames: Sequence[Finished | Failed | None]
    settled_at: datetime
    total_us: int | None = None
    ttft_us: int | None = None
    error_code: str = ""


def entry_of(admission: Admission, started_at: datetime, ending: Ending) -> Entry:
    """The record of an ended request; with a failed and a cancelled choice it has failed."""
    parts = [_step(admission, started_at, *each) for each in enumerate(ending.frames)]
    firsts = parts[:: admission.choices_per_prompt]
    usages = [_usage(frame) for frame in ending.frames]
    failed = next((part for part in parts if part.outcome == RequestRecord.Outcome.FAILED), None)
    error_code = failed.error_code if failed else ending.error_code
    queue, prefill, decode = (
        max((value for part in parts if (value := getattr(part, name)) is not None), default=None)
        for name in ("queue_us", "prefill_us", "decode_us")
    )
    seen = [value for value in (queue, prefill, decode) if value is not None]
    told = sum(part.completion_tokens for part in parts)
    record = RequestRecord(
        run_id=admission.run_id,
        started_at=started_at,
        settled_at=ending.settled_at,
        request_id=admission.request_id,
        kind=admission.kind,
        user_id=admission.user_id,
        key_id=admission.key_id,
        team_id=admission.team_id,
        end_user=admission.end_user,
        requested_model=admission.requested_model,
        version_key=admission.version_key,
        preset=admission.preset,
        priority=admission.priority,
        streamed=admission.streamed,
        outcome=_outcome(ending.frames, error_code),
        error_code=error_code,
        prompt_tokens=sum(part.prompt_tokens for part in firsts),
        cached_tokens=sum(part.cached_tokens for part in firsts),
        completion_tokens=told,
        computed_prompt_tokens=sum(usage.computed_prompt_tokens for usage in usages),
        computed_completion_tokens=sum(usage.computed_completion_tokens for usage in usages),
        queue_us=queue,
        ttft_us=ending.ttft_us if ending.total_us is not None else _recalled_ttft(seen, told),
        prefill_us=prefill,
        decode_us=decode,
        total_us=ending.total_us if ending.total_us is not None else sum(seen),
        device_us=sum(part.device_us for part in parts),
    )
    price = price_at(admission.prices, started_at)
    if price is not None:
        record.price_id = price.id
        rates = Rates(
            price.prompt_nano, price.cached_nano, price.completion_nano, price.device_hour_nano
        )
        record.cost_nano = cost_nano(
            rates, record.prompt_tokens, record.cached_tokens, told, record.device_us
        )
    return Entry(record, parts if len(parts) > 1 else [], _names(admission))


def _outcome(frames: Sequence[Finished | Failed | None], error_code: str) -> str:
    if error_code:
        return RequestRecord.Outcome.FAILED
    if not any(frames):
        return RequestRecord.Outcome.LOST
    if any(frame is None or getattr(frame, "reason", "") == "cancelled" for frame in frames):
        return RequestRecord.Outcome.CANCELLED
    return RequestRecord.Outcome.FINISHED


def _recalled_ttft(seen: list[int], told: int) -> int | None:
    return sum(seen[:2]) if told else None


def _usage(frame: Finished | Failed | None) -> Usage:
    return (frame.usage if frame else None) or _NOTHING


def _step(
    admission: Admission, started_at: datetime, index: int, frame: Finished | Failed | None
) -> RequestStep:
    usage = _usage(frame)
    code = frame.code if isinstance(frame, Failed) else ""
    step = RequestStep(
        run_id=admission.run_id,
        started_at=started_at,
        number=index,
        kind="choice",
        version_key=admission.version_key,
        outcome=_outcome([frame], code),
        error_code=code,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
    )
    if frame is not None:
        timings = frame.timings
        step.queue_us = round(timings.queue_seconds * _MICROSECONDS)
        step.prefill_us = round(timings.prefill_seconds * _MICROSECONDS)
        step.decode_us = round(timings.decode_seconds * _MICROSECONDS)
        step.device_us = round(timings.device_seconds * _MICROSECONDS)
    return step


def _names(admission: Admission) -> list[tuple[str, int, str]]:
    kinds = DimensionName.Kind
    found = [
        (kinds.USER, admission.user_id, admission.user_name),
        (kinds.KEY, admission.key_id, admission.key_name),
        (kinds.TEAM, admission.team_id, admission.team_name),
    ]
    return [
        (str(kind), number, name) for kind, number, name in found if number is not None and name
    ]
