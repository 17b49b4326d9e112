"""A record with its steps and names, on its way into Postgres."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import models

from metrics.models import DimensionName, RequestRecord, RequestStep

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


@dataclass(frozen=True)
class Entry:
    """Rows, not saved yet.

    Attributes:
        names: (kind, id, name) of the record's user, key and team, as they are called now.
    """

    record: RequestRecord
    steps: list[RequestStep] = field(default_factory=list)
    names: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return self.record.run_id

    def encode(self) -> bytes:
        """MessagePack, for Redis."""
        steps = [_values(step) for step in self.steps]
        return _encoder.encode((_values(self.record), steps, self.names))


def decode_entry(data: bytes) -> Entry:
    """The entry in ``data``. Raises ``msgspec.DecodeError`` or ``TypeError`` when it is none."""
    record, steps, names = _decoder.decode(data)
    return Entry(
        RequestRecord(**record),
        [RequestStep(**step) for step in steps],
        [(str(DimensionName.Kind(kind)), number, name) for kind, number, name in names],
    )


def stored_fields(model: type[models.Model]) -> list[Any]:
    """The fields that an insertion gives values to."""
    return [each for each in model._meta.concrete_fields if not each.primary_key]


def _values(row: models.Model) -> dict[str, Any]:
    return {each.attname: getattr(row, each.attname) for each in stored_fields(type(row))}
