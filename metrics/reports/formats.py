"""Reports as JSON, CSV, tables for people, and a page that prints."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from django.template.loader import render_to_string

from metrics.display import NOTHING, duration, money
from metrics.reports.latency import LatencyReport, LatencyRow
from metrics.reports.query import NONE, Query
from metrics.reports.usage import NAMED, Row, Sums, UsageReport

# A spreadsheet takes such a cell for a formula.
_FORMULA: Final = re.compile(r"[=+\-@\t\r\n]")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_BAR: Final = 8
_CLOCKS: Final = {"hour": "%Y-%m-%d %H:%M", "month": "%Y-%m"}
_FIGURES: Final[dict[str, Callable[[Sums], str]]] = {
    "Requests": lambda sums: f"{sums.requests:,}",
    "Tokens in": lambda sums: f"{sums.prompt_tokens:,}",
    "Cached": lambda sums: f"{sums.cached_tokens:,}",
    "Tokens out": lambda sums: f"{sums.completion_tokens:,}",
    "Mean time": lambda sums: duration(sums.finished_us / sums.finished if sums.finished else None),
    "Errors": lambda sums: f"{sums.failed / sums.requests:.1%}" if sums.requests else NOTHING,
    "Cost": lambda sums: money(sums.cost_nano),
    "Corrections": lambda sums: money(sums.correction_nano),
}


@dataclass(frozen=True)
class Line:
    """The cells of a row, and its share of the most requests that a row has, from 0 to 100."""

    cells: list[str]
    percent: float


@dataclass(frozen=True)
class Table:
    """A report for people; the first ``labels`` columns say what a row is about."""

    header: list[str]
    labels: int
    lines: list[Line]
    total: list[str]
    previous: list[str] | None


def range_of(query: Query) -> dict[str, str]:
    """The range that a query covers, in its time zone."""
    since, until = (edge.astimezone(query.zone) for edge in (query.since, query.until))
    return {"from": since.isoformat(), "to": until.isoformat(), "tz": query.zone.key}


def usage_object(report: UsageReport) -> dict[str, Any]:
    """A report as the API answers it; a row is flat, as in CSV."""
    query = report.query
    previous = None
    if report.previous is not None:
        previous = range_of(query.previous) | report.previous.figures()
    return {
        "object": "usage.report",
        **range_of(query),
        "period": query.period or None,
        "group": query.groups,
        "as_of": report.as_of.astimezone(query.zone).isoformat(),
        "data": flat_rows(report),
        "totals": report.totals.figures(),
        "previous": previous,
        "refused": report.refused,
    }


def flat_rows(report: UsageReport | LatencyReport) -> list[dict[str, Any]]:
    zone = report.query.zone

    def flat(row: Row | LatencyRow) -> dict[str, Any]:
        since, until = (moment.astimezone(zone) for moment in (row.since, row.until))
        return {"from": since.isoformat(), "to": until.isoformat()} | row.group | row.figures()

    return [flat(row) for row in report.rows]


def usage_csv(report: UsageReport) -> str:
    """A report as CSV, with a header even if there is no row."""
    columns = ["from", "to"]
    for group in report.query.groups:
        columns += [group, f"{group}_id"] if group in NAMED else [group]
    return csv_of([*columns, *Sums().figures()], flat_rows(report))


def csv_of(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV; a text that a spreadsheet would take for a formula gets a quote before it."""
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return file.getvalue()


def table_of(report: UsageReport) -> Table:
    """A report in numbers that people read; without a period the largest row is the first."""
    query, rows = report.query, report.rows
    labels = ["Time"] if query.period else []
    labels += [group.capitalize() for group in query.groups]
    has_corrections = any(row.sums.correction_nano for row in rows)
    figures = [name for name in _FIGURES if name != "Corrections" or has_corrections]
    most = max((row.sums.requests for row in rows), default=0) or 1

    def cells(names: Sequence[str], sums: Sums) -> list[str]:
        padded = [*names, *[""] * len(labels)][: len(labels)]
        return padded + [_FIGURES[name](sums) for name in figures]

    lines = []
    for row in rows if query.period else sorted(rows, key=lambda row: -row.sums.requests):
        since = row.since.astimezone(query.zone)
        names = [since.strftime(_CLOCKS.get(query.period, "%Y-%m-%d"))] if query.period else []
        names += [str(row.group[group]) or NONE for group in query.groups]
        lines.append(Line(cells(names, row.sums), round(100 * row.sums.requests / most, 1)))
    return Table(
        header=labels + figures,
        labels=len(labels),
        lines=lines,
        total=cells(["Total"], report.totals),
        previous=cells(["Previous"], report.previous) if report.previous else None,
    )


def usage_text(report: UsageReport) -> str:
    """A table with bars, for terminals and for mail programs without HTML."""
    table = table_of(report)
    # A terminal has no room for all columns.
    shown = [number for number, name in enumerate(table.header) if name != "Cached"]
    sums = [cells for cells in (table.total, table.previous) if cells]
    rows = [table.header, *(line.cells for line in table.lines), *sums]
    bars = [
        "",
        *("█" * round(line.percent / 100 * _BAR) for line in table.lines),
        *("" for _ in sums),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for cells, bar in zip(rows, bars, strict=True):
        padded = [f"{cells[n]:{'<' if n < table.labels else '>'}{widths[n]}}" for n in shown]
        lines.append("  ".join([*padded, bar]).rstrip())
    return "\n".join(lines)


def usage_html(title: str, sections: Sequence[tuple[str, UsageReport]]) -> str:
    """A page of reports of one range under a heading each; it needs no other file."""
    tables = [(name, table_of(report)) for name, report in sections]
    context = {"title": title, "first": sections[0][1], "tables": tables}
    return render_to_string("metrics/report.html", context)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
