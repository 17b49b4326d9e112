"""Usage, latency, cost and the fleet over time: pages with charts, tables, a form and CSV."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from metrics.admin.charts import chart, group_name, percentile_lines, stacked, usage_bars
from metrics.display import NOTHING, duration, money
from metrics.reports.fleet import FleetRow, fleet_report
from metrics.reports.formats import csv_of, flat_rows, table_of, usage_csv
from metrics.reports.latency import LatencyReport, latency_report
from metrics.reports.projection import Projection, projections
from metrics.reports.query import GROUPS, PERIODS, BadQueryError, Query, read_query
from metrics.reports.usage import Sums, UsageReport, usage_report
from metrics.visibility import visible_to

RANGES: Final = {
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "14d": "Last 14 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "52w": "Last 52 weeks",
}
_TIMES: Final = ("ttft", "itl", "total")
_SHORT: Final = {"ttft": "TTFT", "itl": "Per token", "total": "Total", "queue": "Queue"}
_PERCENTILES: Final = ("p50", "p95", "p99")


@dataclass
class Content:
    """The parts of a page; a figure has a name, a value and a remark."""

    csv: str
    as_of: datetime
    charts: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    figures: list[tuple[str, str, str]] = field(default_factory=list)
    refused: dict[str, int] | None = None


@dataclass(frozen=True)
class Page:
    """A report, the parameters of an address that has none, and the groups that it knows."""

    title: str
    build: Callable[[Query], Content]
    usual: dict[str, str]
    groups: tuple[str, ...] = ()
    can_compare: bool = False


def report_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show a report, or say why the question makes no sense."""
    page, visible = PAGES[name], visible_to(request.user)
    if name == "fleet" and not visible.everything:
        raise PermissionDenied
    params = {key: values for key, values in request.GET.lists() if any(values) or key == "group"}
    # The form always sends a range; dates go before it.
    if params.keys() & {"from", "to"}:
        params.pop("last", None)
    has_range = bool(params.keys() & {"from", "to", "last"})
    usual = {key: [value] for key, value in page.usual.items() if key != "last" or not has_range}
    params = usual | params
    content, shown_range, error = None, "", ""
    try:
        query = read_query(params, timezone.now(), visible)
        _refuse_unknown(page, query)
        content = page.build(query)
        since, until, as_of = (
            f"{moment.astimezone(query.zone):%Y-%m-%d %H:%M}"
            for moment in (query.since, query.until, content.as_of)
        )
        shown_range = f"{since} to {until}, {query.zone.key}. Complete until {as_of}."
        if query.format == "csv":
            file = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
            return HttpResponse(content.csv, content_type="text/csv; charset=utf-8", headers=file)
    except BadQueryError as bad:
        error = str(bad)
    link = request.GET.copy()
    link["format"] = "csv"
    context = {
        **admin.site.each_context(request),
        "title": page.title,
        "page": page,
        "content": content,
        "error": error,
        "range": shown_range,
        "asked": {key: values[0] for key, values in params.items()},
        "filters": [*params.get("filter", ()), ""],
        "ranges": RANGES,
        "periods": PERIODS,
        "zone": settings.USAGE_TIME_ZONE,
        "csv_link": f"?{link.urlencode()}",
    }
    status = 400 if error else 200
    return TemplateResponse(request, "metrics/report_page.html", context, status=status)


def _refuse_unknown(page: Page, query: Query) -> None:
    asked = [("group", name) for name in query.groups]
    for param, name in [*asked, *(("filter", name) for name, _ in query.filters)]:
        if name not in page.groups:
            raise BadQueryError(param, f"{page.title} has no {param} {name!r}.")
    if query.compare and not page.can_compare:
        raise BadQueryError("compare", f"{page.title} is not compared with the previous period.")


def _usage(query: Query) -> Content:
    report = usage_report(query)
    totals = (report.totals, report.previous)
    return Content(
        csv=usage_csv(report),
        charts=[
            usage_bars(query, report.rows, "Requests", "count", lambda s: s.requests),
            usage_bars(query, report.rows, "Tokens, in and out", "count", _tokens),
            usage_bars(query, report.rows, "Cost", "usd", _dollars),
            usage_bars(query, report.rows, "Failed requests", "count", lambda s: s.failed),
        ],
        tables=_usage_tables(report),
        figures=[
            _figure("Requests", totals, lambda s: s.requests, "{:,}".format),
            _figure("Tokens in", totals, lambda s: s.prompt_tokens, "{:,}".format),
            _figure("Tokens out", totals, lambda s: s.completion_tokens, "{:,}".format),
            _figure("Cost", totals, lambda s: s.total_nano, money),
            _figure("Errors", totals, lambda s: s.failed / (s.requests or 1), "{:.2%}".format),
            _figure("Mean time", totals, lambda s: s.finished_us / (s.finished or 1), duration),
        ],
        as_of=report.as_of,
        refused=report.refused,
    )


def _cost(query: Query) -> Content:
    report = usage_report(query)
    months = {name: projections(replace(query, groups=(name,))) for name in ("team", "key")}
    whole = months["team"][0]
    _, so_far, expected, band = _month_cells(whole)
    month = f"{whole.month:%B}"
    totals = (report.totals, report.previous)
    tables = [
        {
            "title": f"{month} by {name}",
            "labels": 1,
            "header": [name.capitalize(), "So far", "Expected at its end", "80 % band"],
            "rows": [_month_cells(one) for one in sorted(rows[1:], key=lambda p: -p.so_far_nano)],
        }
        for name, rows in months.items()
    ]
    return Content(
        csv=usage_csv(report),
        charts=[usage_bars(query, report.rows, "Cost, corrections included", "usd", _dollars)],
        tables=[*tables, *_usage_tables(report)],
        figures=[
            (f"{month} so far", so_far, "corrections included"),
            (f"Expected at the end of {month}", expected, f"80 % band: {band}"),
            _figure("Cost in the range", totals, lambda s: s.cost_nano, money),
            _figure("Corrections in the range", totals, lambda s: s.correction_nano, money),
        ],
        as_of=report.as_of,
    )


def _month_cells(row: Projection) -> list[str]:
    cells = [group_name(dict(row.group)), money(row.so_far_nano)]
    if row.outlook is None:
        return [*cells, NOTHING, "too little data"]
    low, high = money(row.outlook.low), money(row.outlook.high)
    return [*cells, money(row.outlook.expected), f"{low} to {high}"]


def _usage_tables(report: UsageReport) -> list[dict[str, Any]]:
    """The sums of the range by group, the largest first, and those of each bucket."""
    found = []
    if report.query.groups:
        found.append(("Totals", usage_report(replace(report.query, period=""))))
    tables = []
    for title, one in (*found, ("Over time", report)):
        table = table_of(one)
        lines = table.lines if one.query.period else sorted(table.lines, key=lambda x: -x.percent)
        tables.append(
            {
                "title": title,
                "labels": table.labels,
                "header": table.header,
                "rows": [line.cells for line in lines],
                "last": [row for row in (table.total, table.previous) if row],
            }
        )
    return tables


def _latency(query: Query) -> Content:
    report, whole = latency_report(query), latency_report(replace(query, period=""))
    rows = flat_rows(report)
    return Content(
        csv=csv_of(list(rows[0]) if rows else ["from", "to", *query.groups], rows),
        charts=[percentile_lines(query, report.rows, name, _PERCENTILES) for name in _TIMES],
        tables=[
            _latency_table("Totals", whole, _TIMES),
            _latency_table("Over time", report, _TIMES),
        ],
        as_of=report.as_of,
    )


def _latency_table(title: str, report: LatencyReport, measures: Sequence[str]) -> dict[str, Any]:
    header = ["Time"] if report.query.period else []
    header += ["Group", "Requests"]
    labels = len(header) - 1
    header += [f"{_SHORT[one]} {p}" for one in measures for p in _PERCENTILES]
    rows = []
    for row in report.rows:
        times = [getattr(row.times[one], p) for one in measures for p in _PERCENTILES]
        cells = [_clock(report.query, row.since)] if report.query.period else []
        cells += [group_name(row.group), f"{row.times['total'].count:,}"]
        rows.append(cells + [duration(ms and ms * 1000) for ms in times])
    return {"title": title, "labels": labels, "header": header, "rows": rows}


def _fleet(query: Query) -> Content:
    rows, waits = fleet_report(query), latency_report(query)
    whole = latency_report(replace(query, period=""))
    memory, loads = (
        stacked(query, [(r.since, r.version, r.resident_bytes, value(r)) for r in rows])
        for value in (lambda r: r.resident_bytes / 2**30, lambda r: r.loads)
    )
    cells = [
        [
            _clock(query, row.since),
            row.node,
            row.version,
            f"{row.resident_bytes / 2**30:.2f} GiB",
            f"{row.loads}",
        ]
        for row in rows
    ]
    header = ["Time", "Node", "Version", "Memory", "Loads"]
    return Content(
        csv=csv_of([one.name for one in fields(FleetRow)], [asdict(row) for row in rows]),
        charts=[
            chart(query, "Memory held", "GiB", "area", memory),
            chart(query, "Loads", "count", "bar", loads),
            percentile_lines(query, waits.rows, "queue", ("p50", "p95")),
        ],
        tables=[
            _latency_table("Wait in the queue", whole, ("queue",)),
            {"title": "Over time", "labels": 3, "header": header, "rows": cells},
        ],
        as_of=waits.as_of,
    )


def _clock(query: Query, moment: datetime) -> str:
    return moment.astimezone(query.zone).strftime(
        "%Y-%m-%d %H:%M" if query.period == "hour" else "%Y-%m-%d"
    )


def _tokens(sums: Sums) -> int:
    return sums.prompt_tokens + sums.completion_tokens


def _dollars(sums: Sums) -> float:
    return sums.total_nano / 1e9


def _figure(
    name: str,
    totals: tuple[Sums, Sums | None],
    of: Callable[[Sums], float],
    form: Callable[[Any], str],
) -> tuple[str, str, str]:
    """A total, and how it differs from the previous period."""
    now, before = totals
    if before is None:
        return name, form(of(now)), ""
    if not before.requests:
        return name, form(of(now)), "previous: no requests"
    change = f", {of(now) / of(before) - 1:+.0%}" if of(before) else ""
    return name, form(of(now)), f"previous {form(of(before))}{change}"


PAGES: Final = {
    "usage": Page(
        "Usage", _usage, {"last": "30d", "period": "day", "group": "model"}, GROUPS, True
    ),
    "latency": Page(
        "Latency",
        _latency,
        {"last": "30d", "period": "day", "group": "version"},
        ("version", "model"),
    ),
    "cost": Page("Cost", _cost, {"last": "30d", "period": "day", "group": "team"}, GROUPS, True),
    "fleet": Page("Fleet over time", _fleet, {"last": "7d", "period": "hour"}),
}
urlpatterns = [
    path(
        f"admin/{name}/",
        admin.site.admin_view(partial(report_page, name=name)),
        name=f"{name}_page",
    )
    for name in PAGES
]
