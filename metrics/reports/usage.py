"""Requests, tokens, times, errors and cost, from totals by time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db.models import (
    CharField,
    DateField,
    DateTimeField,
    Expression,
    F,
    Func,
    IntegerField,
    Model,
    Q,
    Sum,
    Value,
)

from metrics.ledger.partitions import SLOT_DAYS
from metrics.ledger.roll import as_of
from metrics.models import DimensionName, RefusedSlot, UsageDay, UsageSlot
from metrics.names import Names
from metrics.reports.query import NONE, BadQueryError, Query

MOST_ROWS: Final = 20_000
NAMED: Final = ("user", "key", "team")
_COLUMNS: Final[dict[str, str]] = {"version": "version_key"} | {
    name: f"{name}_id" for name in NAMED
}


@dataclass(frozen=True)
class Sums:
    """Sums over requests; ``finished_us`` are the times of the finished ones."""

    requests: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    fallbacks: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    computed_prompt_tokens: int = 0
    computed_completion_tokens: int = 0
    finished_us: int = 0
    device_us: int = 0
    cost_nano: int = 0
    correction_nano: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, name) + getattr(other, name) for name in _SUMS))

    @property
    def total_nano(self) -> int:
        return self.cost_nano + self.correction_nano

    def figures(self) -> dict[str, Any]:
        """The sums as reports name them; a rate of no requests is None."""
        return {
            "requests_count": self.requests,
            "failed_count": self.failed,
            "cancelled_count": self.cancelled,
            "tokens_input": self.prompt_tokens,
            "tokens_cached": self.cached_tokens,
            "tokens_output": self.completion_tokens,
            "avg_response_time_ms": _ratio(self.finished_us, self.finished * 1000, 1),
            "error_rate": _ratio(self.failed, self.requests, 4),
            "fallback_rate": _ratio(self.fallbacks, self.requests, 4),
            "cache_hit_rate": _ratio(self.cache_hits, self.requests, 4),
            "device_seconds": round(self.device_us / 1e6, 3),
            "estimated_cost": usd(self.cost_nano),
            "cost_corrections": usd(self.correction_nano),
            "cost_after_corrections": usd(self.total_nano),
        }


@dataclass(frozen=True)
class Row:
    """One group in one bucket; ``group`` has a name for each, and ids where there are any."""

    since: datetime
    until: datetime
    group: dict[str, Any]
    sums: Sums

    def figures(self) -> dict[str, Any]:
        return self.sums.figures()


@dataclass(frozen=True)
class UsageReport:
    """Totals by bucket and group, most recent buckets last; groups without requests are left out.

    ``refused`` counts requests that were refused, by error code: they belong to no user, so only
    readers of everything get them, and no filter applies to them. ``as_of`` is the moment until
    which the totals are complete.
    """

    query: Query
    as_of: datetime
    rows: list[Row]
    totals: Sums
    previous: Sums | None
    refused: dict[str, int] | None


_SUMS: Final = tuple(field.name for field in fields(Sums))


def usage_report(query: Query) -> UsageReport:
    """Read the totals that a query asks for.

    Raises:
        BadQueryError: the report would have too many rows, or is for a time too long ago.
    """
    complete_until = as_of()
    rows = usage_rows(query)
    sees_all = query.visible.everything and not query.filters
    return UsageReport(
        query=query,
        as_of=complete_until,
        rows=rows,
        totals=_added(rows),
        previous=_added(usage_rows(query.previous)) if query.compare else None,
        refused=_refused(query) if sees_all else None,
    )


def usage_rows(query: Query, moments: list[datetime] | None = None) -> list[Row]:
    """The sums of each group between the moments, or in each bucket of the query.

    Raises:
        BadQueryError: as ``usage_report``.
    """
    table, column, edges = (
        (UsageSlot, "slot", moments) if moments else table_for(query, UsageSlot, UsageDay)
    )
    columns = {f"by_{name}": _column(name) for name in query.groups}
    sums = {f"sum_{name}": Sum(name) for name in _SUMS if name != "cache_hits"}
    sums["sum_cache_hits"] = Sum("requests", filter=~Q(tier=""), default=0)
    found = (
        table._default_manager.filter(query.visible.condition(), condition_of(query.filters))
        .filter(**{f"{column}__gte": edges[0], f"{column}__lt": edges[-1]})
        .annotate(number=bucket_number(column, edges), **columns)
        .values("number", *columns)
        .annotate(**sums)
        .order_by("number", *columns)[: MOST_ROWS + 1]
    )
    rows = list(found)
    if len(rows) > MOST_ROWS:
        raise BadQueryError(
            "group",
            f"The report has more than {MOST_ROWS} rows. Choose fewer groups, a longer period, "
            "a shorter range, or a filter.",
        )
    named = [group for group in query.groups if group in NAMED]
    names = Names({group: {row[f"by_{group}"] for row in rows} - {None} for group in named})
    moments = moments or query.edges
    return [
        Row(
            since=moments[row["number"] - 1],
            until=moments[row["number"]],
            group=_group(query, row, names),
            sums=Sums(*(int(row[f"sum_{name}"]) for name in _SUMS)),
        )
        for row in rows
    ]


def table_for(
    query: Query, slots: type[Model], days: type[Model]
) -> tuple[type[Model], str, list[Any]]:
    """The smallest table that has the range, its column of time, and the edges in its type.

    Raises:
        BadQueryError: only totals by day reach back so far.
    """
    if query.day_edges is not None:
        return days, "day", query.day_edges
    if query.since < query.asked_at - timedelta(days=SLOT_DAYS):
        raise BadQueryError(
            "from",
            f"Totals of parts of a day are kept for {SLOT_DAYS} days. Ask for whole days "
            f"of the time zone {settings.USAGE_TIME_ZONE}, or for a later time.",
        )
    return slots, "slot", query.edges


def bucket_number(column: str, edges: list[Any]) -> Func:
    """The number, from 1, of the bucket that a row lies in."""
    kind = DateField() if column == "day" else DateTimeField()
    return Func(
        F(column),
        Value(edges, output_field=ArrayField(kind)),
        function="width_bucket",
        output_field=IntegerField(),
    )


def condition_of(filters: Iterable[tuple[str, str]]) -> Q:
    """Rows that match one value of each group that is filtered by."""
    alternatives: dict[str, Q] = {}
    for group, value in filters:
        alternatives[group] = alternatives.get(group, Q()) | _matches(group, value)
    return Q(*alternatives.values())


def usd(nano: int) -> str:
    """Nano-dollars as dollars, without loss."""
    return f"{Decimal(nano).scaleb(-9):f}"


def _added(rows: Iterable[Row]) -> Sums:
    return sum((row.sums for row in rows), Sums())


def _ratio(part: int, whole: int, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None


def _column(group: str) -> Expression | F:
    if group == "model":
        return Func(
            F("version_key"), Value("@"), Value(1), function="split_part", output_field=CharField()
        )
    return F(_COLUMNS.get(group, group))


def _matches(group: str, value: str) -> Q:
    if group == "model":
        return Q(version_key__startswith=f"{value}@")
    column = _COLUMNS.get(group, group)
    if group not in NAMED:
        return Q(**{column: "" if value == NONE else value})
    if value == NONE:
        return Q(**{f"{column}__isnull": True})
    named = DimensionName.objects.filter(kind=group, name=value).values("dimension_id")
    found = Q(**{f"{column}__in": named})
    return found | Q(**{column: int(value)}) if re.fullmatch("[0-9]+", value) else found


def _group(query: Query, row: dict[str, Any], names: Names) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group in query.groups:
        value = row[f"by_{group}"]
        if group in NAMED:
            found[group] = names.at(group, value, query.until - datetime.resolution)
            found[f"{group}_id"] = value
        else:
            found[group] = value
    return found


def _refused(query: Query) -> dict[str, int]:
    slots = RefusedSlot.objects.filter(slot__gte=query.since, slot__lt=query.until)
    counted = slots.values("code").annotate(number=Sum("requests")).order_by("-number", "code")
    return {row["code"]: int(row["number"]) for row in counted}
