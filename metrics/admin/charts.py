"""Charts by time and group, as data for ``charts.js``."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from metrics.reports.latency import LatencyRow, Percentiles
from metrics.reports.query import NONE, Query
from metrics.reports.usage import Row, Sums, usage_rows

MOST_SERIES: Final = 8
MEASURES: Final = {
    "ttft": "Time to first token",
    "itl": "Time between tokens",
    "total": "Total time",
    "queue": "Wait in the queue",
}
_STROKES: Final = ("solid", "dashed", "dotted")
_CLOCKS: Final = {"hour": "%b %-d %H:%M", "month": "%b %Y"}

# The begin of a bucket, the name of a series, its weight and its value there.
Point = tuple[datetime, str, float, float]


def chart(
    query: Query, title: str, unit: str, kind: str, series: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    clock = _CLOCKS.get(query.period, "%b %-d")
    labels = [edge.astimezone(query.zone).strftime(clock) for edge in query.edges[:-1]]
    return {"title": title, "unit": unit, "kind": kind, "labels": labels, "series": series}


def stacked(query: Query, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Values by name, the heaviest first; names that are too many are added up as others."""
    weights: dict[str, float] = {}
    for _, name, weight, _ in points:
        weights[name] = weights.get(name, 0) + weight
    kept = sorted(weights, key=lambda name: -weights[name])
    if len(kept) > MOST_SERIES:
        kept = kept[: MOST_SERIES - 1]
    places = {edge: place for place, edge in enumerate(query.edges[:-1])}
    found = {name: [0.0] * len(places) for name in [*kept, "others"]}
    for since, name, _, value in points:
        found[name if name in kept else "others"][places[since]] += value
    return [
        {"name": name, "values": values, "colour": colour}
        for colour, (name, values) in enumerate(found.items())
        if any(values)
    ]


def usage_bars(
    query: Query, rows: Iterable[Row], title: str, unit: str, of: Callable[[Sums], float]
) -> dict[str, Any]:
    """Bars by group; the previous period is a line over them."""

    def points(rows: Iterable[Row], name: str = "") -> list[Point]:
        return [
            (row.since, name or group_name(row.group), row.sums.requests, of(row.sums))
            for row in rows
        ]

    series = stacked(query, points(rows))
    if query.compare:
        past = replace(query.previous, groups=())
        lines = stacked(past, points(usage_rows(past), "previous"))
        series += [line | {"line": True} for line in lines]
    return chart(query, title, unit, "bar", series)


def percentile_lines(
    query: Query, rows: Sequence[LatencyRow], measure: str, names: Sequence[str]
) -> dict[str, Any]:
    """A line for each percentile of the groups with most requests; gaps where there were none."""
    counts: Counter[str] = Counter()
    times: dict[tuple[str, datetime], Percentiles] = {}
    for row in rows:
        name = group_name(row.group)
        counts[name] += row.times["total"].count
        times[name, row.since] = row.times[measure]
    series = []
    for colour, (group, _) in enumerate(counts.most_common(MOST_SERIES)):
        found = [times.get((group, edge), Percentiles()) for edge in query.edges[:-1]]
        for level, name in enumerate(names if any(one.count for one in found) else ()):
            values = [getattr(one, name) for one in found]
            series.append(
                {"name": group, "values": values, "colour": colour, "level": level, "detail": name}
            )
    strokes = ", ".join(f"{name} {stroke}" for name, stroke in zip(names, _STROKES, strict=False))
    return chart(query, f"{MEASURES[measure]}: {strokes}", "ms", "line", series)


def group_name(group: dict[str, Any]) -> str:
    names = [str(value) or NONE for key, value in group.items() if not key.endswith("_id")]
    return ", ".join(names) or "all"
