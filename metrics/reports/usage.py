"""Requests, tokens, times, errors and cost, from totals by time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q, Sum, Value

from metrics.ledger.partitions import SLOT_DAYS
from metrics.ledger.roll import as_of
from metrics.models import DimensionName, RefusedSlot, UsageDay, UsageSlot
from metrics.names import Names
from metrics.reports.query import NONE, BadQueryError, Query, ReportRow

MOST_ROWS: Final = 20_000
NAMED: Final = ("user", "key", "team")
# Each group under a name that no column has.
_GROUPS: Final[dict[str, Any]] = {
    "by_version": F("version_key"),
    "by_model": Func("version_key", template="split_part(%(expressions)s, '@', 1)"),
    **{f"by_{name}": F(name) for name in ("preset", "mode", "kind", "tier")},
    **{f"by_{name}": F(f"{name}_id") for name in NAMED},
}


@dataclass(frozen=True)
class Sums:
    """Sums over requests. The finished ones and their times count no answers of caches."""

    requests: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    fallbacks: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finished_us: int = 0
    device_us: int = 0
    cost_nano: int = 0
    correction_nano: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, name) + getattr(other, name) for name in _SUMS))

    @property
    def total_nano(self) -> int:
        return self.cost_nano + self.correction_nano

    @property
    def mean_us(self) -> float | None:
        return _ratio(self.finished_us, self.finished, 1)

    @property
    def error_rate(self) -> float | None:
        return _ratio(self.failed, self.requests, 4)

    def figures(self) -> dict[str, Any]:
        """The sums as reports name them; a rate of no requests is None."""
        return {
            "requests_count": self.requests,
            "failed_count": self.failed,
            "cancelled_count": self.cancelled,
            "tokens_input": self.prompt_tokens,
            "tokens_cached": self.cached_tokens,
            "tokens_output": self.completion_tokens,
            "avg_response_time_ms": self.mean_us and round(self.mean_us / 1000, 1),
            "error_rate": self.error_rate,
            "fallback_rate": _ratio(self.fallbacks, self.requests, 4),
            "cache_hit_rate": _ratio(self.cache_hits, self.requests, 4),
            "device_seconds": round(self.device_us / 1e6, 3),
            "estimated_cost": usd(self.cost_nano),
            "cost_corrections": usd(self.correction_nano),
            "cost_after_corrections": usd(self.total_nano),
        }


_SUMS: Final = tuple(field.name for field in fields(Sums))


@dataclass(frozen=True)
class Row(ReportRow):
    sums: Sums

    def figures(self) -> dict[str, Any]:
        return self.sums.figures()


@dataclass(frozen=True)
class UsageReport:
    """Totals by bucket and group, most recent buckets last, largest groups first.

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


def usage_rows(query: Query, most: int = 0) -> list[Row]:
    """The sums of each group in each bucket, at most ``most`` or else MOST_ROWS.

    Raises:
        BadQueryError: as ``usage_report``.
    """
    most = most or MOST_ROWS
    table, column, edges = table_for(query, UsageSlot, UsageDay)
    groups = [f"by_{name}" for name in query.groups]
    sums = {f"sum_{name}": Sum(name) for name in _SUMS if name != "cache_hits"}
    sums["sum_cache_hits"] = Sum("requests", filter=~Q(tier=""), default=0)
    for name in ("finished", "finished_us"):
        sums[f"sum_{name}"] = Sum(name, filter=Q(tier=""), default=0)
    found = list(
        table._default_manager.filter(query.visible.condition())
        .filter(**{f"{column}__gte": edges[0], f"{column}__lt": edges[-1]})
        .annotate(number=bucket_number(column, edges), **_GROUPS)
        .filter(_condition_of(query.filters))
        .values("number", *groups)
        .annotate(**sums)
        .order_by("number", "-sum_requests", *groups)[: most + 1]
    )
    if len(found) > most:
        raise BadQueryError(
            "group",
            f"The report has more than {most} rows. Choose fewer groups, a longer period, "
            "a shorter range, or a filter.",
        )
    named = [group for group in query.groups if group in NAMED]
    names = Names({group: {row[f"by_{group}"] for row in found} - {None} for group in named})
    end, moments = query.until - datetime.resolution, query.edges

    def group_of(row: dict[str, Any]) -> dict[str, Any]:
        group: dict[str, Any] = {}
        for name in query.groups:
            value = group[name] = row[f"by_{name}"]
            if name in NAMED:
                group |= {name: names.at(name, value, end), f"{name}_id": value}
        return group

    return [
        Row(
            since=moments[row["number"] - 1],
            until=moments[row["number"]],
            group=group_of(row),
            sums=Sums(*(int(row[f"sum_{name}"]) for name in _SUMS)),
        )
        for row in found
    ]


def table_for(
    query: Query, slots: type[models.Model], days: type[models.Model]
) -> tuple[type[models.Model], str, list[Any]]:
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
    kind = models.DateField() if column == "day" else models.DateTimeField()
    array = Value(edges, output_field=ArrayField(kind))
    return Func(F(column), array, function="width_bucket", output_field=models.IntegerField())


def usd(nano: int) -> str:
    """Nano-dollars as dollars, without loss."""
    return f"{Decimal(nano).scaleb(-9):f}"


def _added(rows: Iterable[Row]) -> Sums:
    return sum((row.sums for row in rows), Sums())


def _ratio(part: int, whole: int, digits: int) -> float | None:
    return round(part / whole, digits) if whole else None


def _condition_of(filters: Iterable[tuple[str, str]]) -> Q:
    """Rows that match one value of each group that is filtered by."""
    alternatives: dict[str, Q] = {}
    for group, value in filters:
        column = f"by_{group}"
        if group not in NAMED:
            found = Q(**{column: "" if value == NONE else value})
        elif value == NONE:
            found = Q(**{f"{column}__isnull": True})
        else:
            named = DimensionName.objects.filter(kind=group, name=value).values("dimension_id")
            found = Q(**{f"{column}__in": named})
            if re.fullmatch("[0-9]+", value):
                found |= Q(**{column: int(value)})
        alternatives[group] = alternatives.get(group, Q()) | found
    return Q(*alternatives.values())


def _refused(query: Query) -> dict[str, int]:
    slots = RefusedSlot.objects.filter(slot__gte=query.since, slot__lt=query.until)
    counted = slots.values("code").annotate(number=Sum("requests")).order_by("-number", "code")
    return {row["code"]: int(row["number"]) for row in counted}
