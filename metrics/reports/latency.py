"""Percentiles of times by version: to the first token, between tokens, in the queue, in total."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from metrics.ledger.buckets import merged_sql, percentile
from metrics.ledger.roll import as_of
from metrics.models import ShapeDay, ShapeSlot
from metrics.reports.query import BadQueryError, Query, ReportRow
from metrics.reports.usage import table_for

MEASURES: Final = tuple(ShapeSlot.Measure.values)
_COLUMNS: Final = {"version": "version_key", "model": "split_part(version_key, '@', 1)"}


# Hours that lie in one bucket, and the slots of the others, which begin or end within a bucket.
_IN_ONE: Final = "width_bucket({0}, %(edges)s) = width_bucket({0} + '45 minutes', %(edges)s)".format
_PIECES: Final = f"""(
    SELECT hour AS slot, version_key, measure, buckets, counts FROM metrics_shapehour
    WHERE {_IN_ONE("hour")}
    UNION ALL SELECT slot, version_key, measure, buckets, counts FROM metrics_shapeslot
    WHERE NOT {_IN_ONE("date_bin('1 hour', slot, 'epoch')")}
) AS pieces"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds, with an error of at most 2 %; None where nothing was counted."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class LatencyRow(ReportRow):
    """Times by measure. Only finished requests count, and no answers of caches."""

    times: Mapping[str, Percentiles]

    def figures(self) -> dict[str, Any]:
        return {"requests_count": self.times["total"].count} | {
            f"{measure}_{name}_ms": getattr(self.times[measure], name)
            for measure in MEASURES
            for name in ("p50", "p95", "p99")
        }


@dataclass(frozen=True)
class LatencyReport:
    """Times of versions; they are no user's, so every reader may see them."""

    query: Query
    as_of: datetime
    rows: list[LatencyRow]


def latency_report(query: Query) -> LatencyReport:
    """Read the times that a query asks for, by version unless it says otherwise.

    Raises:
        BadQueryError: another group or filter than version and model, or a time too long ago.
    """
    groups = query.groups or ("version",)
    asked = [("group", group) for group in groups] + [("filter", name) for name, _ in query.filters]
    for param, name in asked:
        if name not in _COLUMNS:
            raise BadQueryError(param, f"Times are kept by version and model, not by {name}.")
    complete_until = as_of()
    table, column, edges = table_for(query, ShapeSlot, ShapeDay)
    where = f"{column} >= %(since)s AND {column} < %(until)s"
    values: dict[str, Any] = {"edges": edges, "since": edges[0], "until": edges[-1]}
    for name in dict(query.filters):
        where += f" AND {_COLUMNS[name]} = ANY(%({name})s)"
        values[name] = [value for other, value in query.filters if other == name]
    # The query itself has a column "number".
    by = {"bucket_number": f"width_bucket({column}, %(edges)s)"}
    by |= {f"by_{group}": _COLUMNS[group] for group in groups} | {"measure": "measure"}
    with connection.cursor() as cursor:
        source = _PIECES if table is ShapeSlot else table._meta.db_table
        cursor.execute(merged_sql(source, where, by), values)
        found = cursor.fetchall()
    times: dict[tuple[Any, ...], dict[str, Percentiles]] = {}
    for *place, measure, buckets, counts in found:
        times.setdefault(tuple(place), {})[measure] = _percentiles(buckets, counts)
    moments = query.edges
    rows = [
        LatencyRow(
            since=moments[number - 1],
            until=moments[number],
            group=dict(zip(groups, group, strict=True)),
            times=dict.fromkeys(MEASURES, Percentiles()) | times[number, *group],
        )
        for number, *group in sorted(times)
    ]
    return LatencyReport(query, complete_until, rows)


def _percentiles(buckets: list[int], counts: list[int]) -> Percentiles:
    values = (percentile(buckets, counts, fraction) for fraction in (0.5, 0.95, 0.99))
    return Percentiles(sum(counts), *(value and round(value / 1000, 3) for value in values))
