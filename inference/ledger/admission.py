"""The facts of a request that are known when it is accepted, and its record when it has ended."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from inference.messages import Failed, Finished, Kind, Usage
from metrics.ledger.cost import Rates, cost_nano
from metrics.ledger.entry import Entry, stored_fields
from metrics.models import RequestRecord, RequestStep
from models_registry.rules.price import Price, price_at

_MICROSECONDS = 1_000_000
_NOTHING = Usage(0, 0)
_encoder = msgspec.msgpack.Encoder()


class Admission(msgspec.Struct, frozen=True, omit_defaults=True):
    """Facts for the record; kept in Redis until Postgres has it.

    ``item_ids`` name the streams of the request's choices; ``choices_per_prompt`` is as in
    ``RunHeader``. One of ``prices`` is in force at the moment of admission, or none. ``names`` are
    as in ``Entry``. The other fields are the record's.
    """

    run_id: str
    kind: Kind
    user_id: int
    version_key: str
    item_ids: list[str]
    choices_per_prompt: int = 1
    prices: tuple[Price, ...] = ()
    names: list[tuple[str, int, str]] = []
    key_id: int | None = None
    team_id: int | None = None
    request_id: str = ""
    end_user: str = ""
    requested_model: str = ""
    preset: str = ""
    priority: int = 2
    streamed: bool = False

    def encode(self) -> bytes:
        return _encoder.encode(self)


decode_admission = msgspec.msgpack.Decoder(Admission).decode
_SHARED = {field.attname for field in stored_fields(RequestRecord)} & set(
    Admission.__struct_fields__
)


Last = Finished | Failed | None
"""The last frame of a choice; None where there is none."""


def entry_of(
    admission: Admission,
    started_at: datetime,
    settled_at: datetime,
    frames: Sequence[Last],
    *,
    total_us: int | None = None,
    ttft_us: int | None = None,
    error_code: str = "",
    tier: str = "",
) -> Entry:
    """The record of an ended request; with a failed and a cancelled choice it has failed.

    Args:
        admission: its facts.
        started_at, settled_at: the moment of admission, and now.
        frames: one for each choice.
        total_us, ttft_us: from admission, as the caller saw it; None: from the frames' timings.
        error_code: of an error that is in no frame.
        tier: the cache that has answered, which costs nothing; "" for a model.
    """
    steps = [_step(admission, started_at, *each) for each in enumerate(frames)]
    firsts = steps[:: admission.choices_per_prompt]
    usages = [_usage(frame) for frame in frames]
    codes = (frame.code for frame in frames if isinstance(frame, Failed))
    error_code = next(codes, error_code)
    phases = {name: _longest(steps, name) for name in ("queue_us", "prefill_us", "decode_us")}
    record = RequestRecord(
        **{name: getattr(admission, name) for name in _SHARED},
        **phases,
        started_at=started_at,
        settled_at=settled_at,
        outcome=_outcome(frames, error_code),
        error_code=error_code,
        tier=tier,
        prompt_tokens=sum(step.prompt_tokens for step in firsts),
        cached_tokens=sum(step.cached_tokens for step in firsts),
        completion_tokens=sum(step.completion_tokens for step in steps),
        computed_prompt_tokens=sum(usage.computed_prompt_tokens for usage in usages),
        computed_completion_tokens=sum(usage.computed_completion_tokens for usage in usages),
        device_us=sum(step.device_us for step in steps),
    )
    if total_us is not None:
        record.total_us, record.ttft_us = total_us, ttft_us
    else:
        queue, prefill, decode = (value or 0 for value in phases.values())
        record.total_us = queue + prefill + decode
        record.ttft_us = queue + prefill if record.completion_tokens else None
    price = price_at(admission.prices, started_at)
    if price is not None and not tier:
        record.price_id = price.id
        record.cost_nano = cost_nano(
            Rates(
                price.prompt_nano, price.cached_nano, price.completion_nano, price.device_hour_nano
            ),
            record.prompt_tokens,
            record.cached_tokens,
            record.completion_tokens,
            record.device_us,
        )
    return Entry(record, steps if len(steps) > 1 else [], admission.names)


def _step(admission: Admission, started_at: datetime, number: int, frame: Last) -> RequestStep:
    usage = _usage(frame)
    code = frame.code if isinstance(frame, Failed) else ""
    step = RequestStep(
        run_id=admission.run_id,
        started_at=started_at,
        number=number,
        kind="choice",
        version_key=admission.version_key,
        outcome=_outcome([frame], code),
        error_code=code,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
    )
    if frame is not None:
        for phase in ("queue", "prefill", "decode", "device"):
            seconds = getattr(frame.timings, f"{phase}_seconds")
            setattr(step, f"{phase}_us", round(seconds * _MICROSECONDS))
    return step


def _outcome(frames: Sequence[Last], error_code: str) -> str:
    if error_code:
        return RequestRecord.Outcome.FAILED
    if not any(frames):
        return RequestRecord.Outcome.LOST
    if any(frame is None or getattr(frame, "reason", "") == "cancelled" for frame in frames):
        return RequestRecord.Outcome.CANCELLED
    return RequestRecord.Outcome.FINISHED


def _usage(frame: Last) -> Usage:
    return (frame.usage if frame else None) or _NOTHING


def _longest(steps: Sequence[RequestStep], name: str) -> int | None:
    values = (getattr(step, name) for step in steps)
    return max((value for value in values if value is not None), default=None)
