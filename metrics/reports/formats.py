"""Reports as JSON, CSV, tables for people, and a page that prints."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from itertools import zip_longest
from typing import Any, Final

from django.template.loader import render_to_string

from metrics.display import NOTHING, duration, money
from metrics.reports.projection import projections
from metrics.reports.query import NONE, Query, ReportRow
from metrics.reports.usage import NAMED, Sums, UsageReport

# A spreadsheet takes such a cell for a formula.
_FORMULA: Final = re.compile(r"[=+\-@\t\r\n]")
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_BAR: Final = 8
_CLOCKS: Final = {"hour": "%Y-%m-%d %H:%M", "month": "%Y-%m"}
# A figure, or None where there is none, and its text.
FIGURES: Final[dict[str, tuple[Callable[[Sums], Any], Callable[[Any], str]]]] = {
    "Requests": (lambda sums: sums.requests, "{:,}".format),
    "Tokens in": (lambda sums: sums.prompt_tokens, "{:,}".format),
    "Cached": (lambda sums: sums.cached_tokens, "{:,}".format),
    "Tokens out": (lambda sums: sums.completion_tokens, "{:,}".format),
    "Mean time": (lambda sums: sums.mean_us, duration),
    "Errors": (
        lambda sums: sums.error_rate,
        lambda rate: NOTHING if rate is None else f"{rate:.2%}",
    ),
    "Cost": (lambda sums: sums.total_nano, money),
    "Of it corrections": (lambda sums: sums.correction_nano, money),
}


@dataclass(frozen=True)
class Table:
    """A table for people; the first ``labels`` columns say what a row is about, others are numbers.

    ``last`` has sums of the rows.
    """

    title: str
    labels: int
    header: list[str]
    rows: list[list[str]]
    last: Sequence[list[str]] = ()

    @property
    def parts(self) -> list[tuple[str, str, Sequence[list[str]]]]:
        """The parts of the table in HTML, with the kinds of their cells."""
        return [
            ("thead", "th", [self.header]),
            ("tbody", "td", self.rows),
            ("tfoot", "th", self.last),
        ]


def clock(query: Query, moment: datetime) -> str:
    """The begin of a bucket in the query's time zone."""
    return moment.astimezone(query.zone).strftime(_CLOCKS.get(query.period, "%Y-%m-%d"))


def group_name(group: Mapping[str, Any]) -> str:
    names = [str(value) or NONE for key, value in group.items() if not key.endswith("_id")]
    return ", ".join(names) or "all"


def summary_of(query: Query, rows: Sequence[ReportRow], as_of: datetime) -> str:
    """A query in words, whether nothing matches it, and until when its totals are complete."""
    since, until, complete = (
        f"{moment.astimezone(query.zone):%Y-%m-%d %H:%M}"
        for moment in (query.since, query.until, as_of)
    )
    texts = [f"{since} to {until}, {query.zone.key}."]
    if query.groups:
        texts.append(f"By {' and '.join(query.groups)}.")
    if query.filters:
        only = ", ".join(f"{group}: {value}" for group, value in query.filters)
        texts.append(f"Only {only}." if rows else f"Nothing matches {only}.")
    return " ".join([*texts, f"Complete until {complete}."])


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
        "data": flat_rows(query, report.rows),
        "totals": report.totals.figures(),
        "previous": previous,
        "refused": report.refused,
        "note": "" if report.rows else "nothing matches",
    }


def flat_rows(query: Query, rows: Iterable[ReportRow]) -> list[dict[str, Any]]:
    zone = query.zone
    return [
        {
            "from": row.since.astimezone(zone).isoformat(),
            "to": row.until.astimezone(zone).isoformat(),
            **row.group,
            **row.figures(),
        }
        for row in rows
    ]


def csv_of(query: Query, rows: Iterable[ReportRow], figures: Iterable[str] = ()) -> str:
    """Rows as CSV; a text that a spreadsheet would take for a formula gets a quote before it.

    ``figures`` are the columns after the groups if there is no row.
    """
    flat = flat_rows(query, rows)
    groups = [f"{name}{end}" for name in query.groups for end in ("", "_id")[: 1 + (name in NAMED)]]
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(flat[0] if flat else ["from", "to", *groups, *figures])
    writer.writerows(map(_cell, row.values()) for row in flat)
    return file.getvalue()


def table_of(report: UsageReport, title: str = "") -> Table:
    """A report in numbers that people read, with the totals and those of the time before."""
    query = report.query
    labels = ["Time"] if query.period else []
    labels = labels + [group.capitalize() for group in query.groups] or [""]
    sums = [*(row.sums for row in report.rows), report.previous or Sums()]
    has_corrections = any(one.correction_nano for one in sums)
    figures = [name for name in FIGURES if name != "Of it corrections" or has_corrections]

    def cells(names: Sequence[str], sums: Sums) -> list[str]:
        padded = [*names, *[""] * len(labels)][: len(labels)]
        return padded + [form(of(sums)) for of, form in map(FIGURES.__getitem__, figures)]

    rows = []
    for row in report.rows:
        names = [clock(query, row.since)] if query.period else []
        names += [str(row.group[group]) or NONE for group in query.groups]
        rows.append(cells(names, row.sums))
    last = [cells(["Total"], report.totals)]
    if labels == [""]:
        rows, last = last, []
    last += [cells(["Previous"], report.previous)] if report.previous else []
    return Table(title, len(labels), labels + figures, rows, last)


def month_table(query: Query) -> Table:
    """The cost of the current month of all that a query asks for, then of each group."""
    whole, *parts = projections(query)
    rows = []
    for one in (whole, *sorted(parts, key=lambda one: -one.so_far_nano)):
        ahead = [NOTHING, "too little data"]
        if one.outlook:
            low, high = money(one.outlook.low), money(one.outlook.high)
            ahead = [money(one.outlook.expected), f"{low} to {high}"]
        rows.append([group_name(one.group), money(one.so_far_nano), *ahead])
    groups = " and ".join(query.groups)
    title = f"{whole.month:%B} by {groups}" if groups else f"{whole.month:%B}"
    header = [groups.capitalize(), "So far", "Expected at its end", "80 % band"]
    return Table(title, 1, header, rows)


def usage_text(report: UsageReport) -> str:
    """A table with bars, for terminals and for mail programs without HTML."""
    table = table_of(report)
    # A terminal has no room for all columns.
    shown = [number for number, name in enumerate(table.header) if name != "Cached"]
    # A name must give no orders to a terminal.
    rows = [
        [re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", cell) for cell in row]
        for row in (table.header, *table.rows, *table.last)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    most = max((row.sums.requests for row in report.rows), default=0) or 1
    bars = ["", *("█" * round(_BAR * row.sums.requests / most) for row in report.rows)]
    lines = []
    for cells, bar in zip_longest(rows, bars, fillvalue=""):
        padded = [f"{cells[n]:{'<' if n < table.labels else '>'}{widths[n]}}" for n in shown]
        lines.append("  ".join([*padded, bar]).rstrip())
    return "\n".join(lines)


def usage_html(
    title: str, sections: Sequence[tuple[str, UsageReport]], more: Iterable[Table] = ()
) -> str:
    """A page of reports of one range under a heading each; it needs no other file."""
    tables = [*(table_of(report, name) for name, report in sections), *more]
    first = sections[0][1]
    summary = summary_of(first.query, first.rows, first.as_of)
    context = {"title": title, "summary": summary, "tables": tables, "refused": first.refused}
    return render_to_string("metrics/report.html", context)


def _cell(value: Any) -> Any:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
