"""Rows of totals for tests of reports."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from metrics.ledger.roll import roll
from metrics.models import RollMark, ShapeSlot, UsageDay, UsageSlot
from metrics.reports.query import Query, read_query
from metrics.visibility import Visibility
from tests.metrics.rows import bucket_of

EVERYTHING = Visibility(everything=True)
DIMENSIONS: dict[str, Any] = {
    "version_key": "m@v1",
    "team_id": None,
    "user_id": 1,
    "key_id": None,
    "preset": "",
    "mode": "single",
    "kind": "chat",
    "tier": "",
}


def moment(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def query(now: str = "2026-11-30T12:00", visible: Visibility = EVERYTHING, **params: Any) -> Query:
    """The query of parameters; ``from_`` stands for "from", and lists for repeated ones."""
    lists = {
        name.rstrip("_"): value if isinstance(value, list) else [value]
        for name, value in params.items()
    }
    return read_query(lists, moment(now), visible)


def add_slot(slot: str, requests: int = 1, **fields: Any) -> None:
    """Totals of a quarter of an hour; all requests finished unless told otherwise."""
    UsageSlot.objects.create(slot=moment(slot), **_totals(requests, fields))


def add(slot: str, requests: int = 1, **fields: Any) -> None:
    """Totals of a quarter of an hour and of its day in UTC."""
    add_slot(slot, requests, **fields)
    add_day(slot, requests, **fields)


def add_day(day: str, requests: int = 1, **fields: Any) -> None:
    UsageDay.objects.create(day=moment(day).date(), **_totals(requests, fields))


def add_shape(slot: str, measure: str, times_us: Iterable[int], version_key: str = "m@v1") -> None:
    counts: dict[int, int] = {}
    for time_us in times_us:
        counts[bucket_of(time_us)] = counts.get(bucket_of(time_us), 0) + 1
    ShapeSlot.objects.create(
        slot=moment(slot),
        version_key=version_key,
        measure=measure,
        buckets=list(counts),
        counts=list(counts.values()),
    )
    RollMark.objects.create(slot=moment(slot))
    roll()


def _totals(requests: int, fields: dict[str, Any]) -> dict[str, Any]:
    names = {field.attname for field in UsageSlot._meta.concrete_fields} - {"id", "slot"}
    sums: dict[str, Any] = dict.fromkeys(names, 0)
    return sums | DIMENSIONS | {"requests": requests, "finished": requests} | fields
