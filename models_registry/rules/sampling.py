"""Default sampling values of a version, preset or registration."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
TopK = Annotated[int, Meta(ge=0, le=10_000_000)]
MinP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
# Above 0: logits are divided by it.
RepeatPenalty = Annotated[float, Meta(ge=0.01, le=10)]


class SamplingDefaults(msgspec.Struct, frozen=True):
    """None stands for OpenAI's default."""

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: RepeatPenalty | None = None


SAMPLING_FIELDS = SamplingDefaults.__struct_fields__


class _StrictDefaults(SamplingDefaults, frozen=True, forbid_unknown_fields=True):
    pass


def require_sampling(values: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for an unknown name, a wrong type or a value out of range."""
    try:
        msgspec.convert(values, _StrictDefaults)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}. Known names: {', '.join(SAMPLING_FIELDS)}.") from error


def read_sampling(values: Mapping[str, Any]) -> SamplingDefaults:
    """Sampling values of a row.

    Unknown names are ignored: rows may be older than ``require_sampling``.

    Raises:
        ValueError: a value has a wrong type or is out of range.
    """
    try:
        return msgspec.convert(values, SamplingDefaults)
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}.") from error
