"""Sampling values that a version, preset or registration sets where requests name none: pure."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
TopK = Annotated[int, Meta(ge=0, le=10_000_000)]
MinP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
# Logits are divided by it.
RepeatPenalty = Annotated[float, Meta(ge=0.01, le=10)]


class SamplingDefaults(msgspec.Struct, frozen=True):
    """What may be set; None leaves it to OpenAI's usual value."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: RepeatPenalty | None = None


class _NothingElse(SamplingDefaults, frozen=True, forbid_unknown_fields=True):
    """The same, for what somebody enters."""


def require_sampling(values: Mapping[str, Any]) -> None:
    """See that sampling values that somebody enters have known names, and good values.

    Raises:
        ValueError: one is unknown, of the wrong type or out of its range.
    """
    try:
        msgspec.convert(values, _NothingElse)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}. Known are {', '.join(SAMPLING_FIELDS)}.") from error


def read_sampling(values: Mapping[str, Any]) -> SamplingDefaults:
    """Sampling values of a row, with types and ranges checked.

    Other names are passed over: rows may be older than the check of what is entered.

    Raises:
        ValueError: one is of the wrong type or out of its range.
    """
    try:
        return msgspec.convert(values, SamplingDefaults)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}.") from error


SAMPLING_FIELDS = SamplingDefaults.__struct_fields__
"""Names of what may be set."""
