"""Charts by time and group, as data for ``charts.js``."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from metrics.reports.formats import clock, group_name
from metrics.reports.latency import LatencyRow, Percentiles
from metrics.reports.query import Query
from metrics.reports.usage import Sums, UsageReport, usage_rows

MOST_SERIES: Final = 7
MEASURES: Final = {
    "ttft": "First token",
    "itl": "Per token",
    "total": "Total time",
    "queue": "Wait in the queue",
}
Value = Callable[[Sums], float]
_STROKES: Final = {"p50": "solid", "p95": "dashed", "p99": "dotted"}


def usage_charts(
    report: UsageReport, shown: Iterable[tuple[str, str, Value]]
) -> list[dict[str, Any]]:
    """Bars by group for each title, unit and value; the previous period is a line over them."""
    query = report.query
    names = heaviest((group_name(row.group), row.sums.requests) for row in report.rows)
    past = replace(query.previous, groups=()) if query.compare else query
    past_rows = usage_rows(past) if query.compare else []
    charts = []
    for title, unit, of in shown:
        rows = [(row.since, group_name(row.group), of(row.sums)) for row in report.rows]
        before = [(row.since, "previous", of(row.sums)) for row in past_rows]
        # Chart.js draws the first on top.
        series = bars(past, ["previous"], before, "previous") + bars(query, names, rows)
        charts.append(chart(query, title, unit, series))
    return charts


def bars(
    query: Query,
    names: Iterable[str],
    rows: Iterable[tuple[datetime, str, float]],
    detail: str = "",
) -> list[dict[str, Any]]:
    """Values by bucket and name; names that are not among the given are added up as others."""
    places = {edge: place for place, edge in enumerate(query.edges[:-1])}
    found = {name: [0.0] * len(places) for name in [*names, "others"]}
    for since, name, value in rows:
        found[name if name in found else "others"][places[since]] += value
    return [
        {"name": name, "values": values, "colour": colour, "detail": detail}
        for colour, (name, values) in enumerate(found.items())
        if any(values)
    ]


def percentile_chart(
    query: Query, rows: Sequence[LatencyRow], measure: str, levels: Sequence[str]
) -> dict[str, Any]:
    """A line for each percentile of the groups with most requests; gaps where there were none."""
    times = {(group_name(row.group), row.since): row.times[measure] for row in rows}
    series = []
    names = heaviest((group_name(row.group), row.times["total"].count) for row in rows)
    for colour, name in enumerate(names):
        found = [times.get((name, edge), Percentiles()) for edge in query.edges[:-1]]
        for level in levels if any(one.count for one in found) else ():
            values = [getattr(one, level) for one in found]
            series.append({"name": name, "values": values, "colour": colour, "detail": level})
    strokes = ", ".join(f"{level} {_STROKES[level]}" for level in levels)
    return chart(query, f"{MEASURES[measure]}: {strokes}", "ms", series)


def chart(query: Query, title: str, unit: str, series: list[dict[str, Any]]) -> dict[str, Any]:
    labels = [clock(query, edge) for edge in query.edges[:-1]]
    return {"title": title, "unit": unit, "labels": labels, "series": series}


def heaviest(weights: Iterable[tuple[str, int]]) -> list[str]:
    """The names with the largest sums of their weights, the heaviest first."""
    sums: Counter[str] = Counter()
    for name, weight in weights:
        sums[name] += weight
    return [name for name, _ in sums.most_common(MOST_SERIES)]
