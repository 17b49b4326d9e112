"""Usage, latency, cost and the fleet over time: pages with a form, charts, tables and CSV."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from metrics.admin import charts
from metrics.admin.caches import cache_content
from metrics.display import duration
from metrics.reports.fleet import fleet_report
from metrics.reports.formats import (
    FIGURES,
    Table,
    clock,
    csv_of,
    group_name,
    month_table,
    summary_of,
    table_of,
)
from metrics.reports.latency import LatencyReport, latency_report
from metrics.reports.query import GROUPS, PERIODS, BadQueryError, Query, read_query
from metrics.reports.usage import Sums, UsageReport, usage_report
from metrics.visibility import visible_to

_TEXT: Final = UnfoldAdminTextInputWidget()
_DATE: Final = UnfoldAdminTextInputWidget(attrs={"type": "date"})
_RANGES: Final = ("24h", "7d", "30d", "90d", "52w")
_TIMES: Final = ("ttft", "itl", "total")
_PERCENTILES: Final = ("p50", "p95", "p99")


Content = dict[str, Any]
"""The parts of a page for its template; a figure has a name, a value and a remark."""


@dataclass(frozen=True)
class Page:
    """A report, the question of an address that asks none, and the groups that it knows."""

    title: str
    build: Callable[[Query], Content]
    usual: dict[str, list[str]]
    groups: tuple[str, ...] = ()
    can_compare: bool = False


def report_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show a report, or say why the question makes no sense."""
    page, visible = PAGES[name], visible_to(request.user)
    if name == "fleet" and not visible.everything:
        raise PermissionDenied
    params = {key: values for key, values in request.GET.lists() if any(values)} or page.usual
    if not params.keys() & {"last", "from", "to"}:
        params["last"] = page.usual["last"]
    context = {
        **admin.site.each_context(request),
        "title": page.title,
        "inputs": _inputs(page, params),
    }
    try:
        query = read_query(params, timezone.now(), visible)
        known = {"group": page.groups, "filter": page.groups, "compare": page.can_compare}
        for param, is_known in known.items():
            if param in params and not is_known:
                raise BadQueryError(param, f"{page.title} has no parameter {param!r}.")
        content = page.build(query)
    except BadQueryError as bad:
        context["error"] = str(bad)
        return TemplateResponse(request, "metrics/report_page.html", context, status=400)
    if query.format == "csv":
        file = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        text = csv_of(query, content["rows"])
        return HttpResponse(text, content_type="text/csv; charset=utf-8", headers=file)
    context["content"] = content
    context["summary"] = summary_of(query, content["rows"], content["as_of"])
    return TemplateResponse(request, "metrics/report_page.html", context)


def _inputs(page: Page, params: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The labels and fields of the form, filled in with the question."""
    asked = {name: ",".join(values) for name, values in params.items()}

    def choice(name: str, nothing: str, *offered: str) -> str:
        # An address may have other values, such as two groups.
        values = dict.fromkeys([*offered, asked[name]] if name in asked else offered)
        options = [("", nothing), *((value, value) for value in values)]
        return UnfoldAdminSelectWidget(choices=options).render(name, asked.get(name))

    def moment(name: str) -> str:
        value = asked.get(name, "")
        # A field for dates would lose a time of day.
        return (_TEXT if "T" in value else _DATE).render(name, value)

    inputs = [
        ("Last", choice("last", "(by dates)", *_RANGES)),
        ("From", moment("from")),
        ("To", moment("to")),
        ("Time zone", _TEXT.render("tz", asked.get("tz", settings.USAGE_TIME_ZONE))),
        ("By", choice("period", "whole range", *PERIODS)),
    ]
    if page.groups:
        hint = {"placeholder": f"{page.groups[0]}:…"}
        filters = [*params.get("filter", ()), ""]
        inputs.append(("Group", choice("group", "none", *page.groups)))
        inputs += [("Filter", _TEXT.render("filter", text, hint)) for text in filters]
    if page.can_compare:
        inputs.append(("Compare with", choice("compare", "nothing", "previous")))
    return inputs


def _usage(query: Query) -> Content:
    report = usage_report(query)
    shown = [
        ("Requests", "count", lambda sums: sums.requests),
        ("Tokens, in and out", "count", lambda sums: sums.prompt_tokens + sums.completion_tokens),
        ("Cost", "usd", _dollars),
        ("Failed requests", "count", lambda sums: sums.failed),
    ]
    figures = ("Requests", "Tokens in", "Tokens out", "Cost", "Errors", "Mean time")
    return _usage_content(report, shown) | {
        "figures": [_figure(report, name) for name in figures],
        "refused": report.refused,
    }


def _cost(query: Query) -> Content:
    report = usage_report(query)
    content = _usage_content(report, [("Cost, corrections included", "usd", _dollars)], _dollars)
    months = [month_table(replace(query, groups=(name,))) for name in ("team", "key")]
    _, so_far, expected, band = months[0].rows[0]
    return content | {
        "tables": [*months, *content["tables"]],
        "figures": [
            ("This month so far", so_far, "corrections included"),
            ("Expected at its end", expected, f"80 % band: {band}"),
            _figure(report, "Cost", " in the range"),
        ],
    }


def _usage_content(
    report: UsageReport,
    shown: list[tuple[str, str, charts.Value]],
    size: charts.Value = lambda sums: sums.requests,
) -> Content:
    """Charts, and the sums of the range by group, the largest first, and those of each bucket."""
    reports = {"Over time": report}
    if report.query.groups:
        totals = usage_report(replace(report.query, period=""))
        rows = sorted(totals.rows, key=lambda row: -size(row.sums))
        reports = {"Totals": replace(totals, rows=rows), **reports}
    return {
        "rows": report.rows,
        "charts": charts.usage_charts(report, shown),
        "tables": [table_of(one, title) for title, one in reports.items()],
        "as_of": report.as_of,
    }


def _latency(query: Query) -> Content:
    report, whole = latency_report(query), latency_report(replace(query, period=""))
    return {
        "rows": report.rows,
        "charts": [
            charts.percentile_chart(query, report.rows, name, _PERCENTILES) for name in _TIMES
        ],
        "tables": [
            _latency_table("Totals", whole, _TIMES),
            _latency_table("Over time", report, _TIMES),
        ],
        "as_of": report.as_of,
    }


def _latency_table(title: str, report: LatencyReport, measures: Sequence[str]) -> Table:
    times = [(measure, level) for measure in measures for level in _PERCENTILES]
    header = ["From", "Group", "Requests"]
    header += [f"{charts.MEASURES[one]} {level}" for one, level in times]
    rows = []
    for row in report.rows:
        found = [getattr(row.times[one], level) for one, level in times]
        cells = [clock(report.query, row.since), group_name(row.group)]
        cells += [f"{row.times['total'].count:,}", *(duration(ms and ms * 1000) for ms in found)]
        rows.append(cells)
    return Table(title, 2, header, rows)


def _fleet(query: Query) -> Content:
    rows, waits = fleet_report(query), latency_report(query)
    names = charts.heaviest((row.group["version"], row.resident_bytes) for row in rows)
    memory = [(row.since, row.group["version"], row.resident_bytes / 2**30) for row in rows]
    loads = [(row.since, row.group["version"], row.loads) for row in rows]
    cells = [
        [clock(query, row.since), *row.group.values(), f"{held:.2f} GiB", f"{row.loads}"]
        for row, (_, _, held) in zip(rows, memory, strict=True)
    ]
    return {
        "rows": rows,
        "charts": [
            charts.chart(query, "Memory held", "GiB", charts.bars(query, names, memory)),
            charts.chart(query, "Loads", "count", charts.bars(query, names, loads)),
            charts.percentile_chart(query, waits.rows, "queue", ("p50", "p95")),
        ],
        "tables": [
            _latency_table("Waits", latency_report(replace(query, period="")), ("queue",)),
            Table("Over time", 3, ["From", "Node", "Version", "Memory", "Loads"], cells),
        ],
        "as_of": waits.as_of,
    }


def _dollars(sums: Sums) -> float:
    return sums.total_nano / 1e9


def _figure(report: UsageReport, name: str, more: str = "") -> tuple[str, str, str]:
    """A total, and how it differs from the previous period."""
    of, form = FIGURES[name]
    now, remark = of(report.totals), ""
    if report.previous is not None:
        before = of(report.previous)
        change = f", {now / before - 1:+.0%}" if before and now is not None else ""
        remark = f"previous {form(before)}{change}"
    return name + more, form(now), remark


_MONTH: Final = {"last": ["30d"], "period": ["day"]}
PAGES: Final = {
    "usage": Page("Usage", _usage, {**_MONTH, "group": ["model"]}, GROUPS, True),
    "latency": Page("Latency", _latency, {**_MONTH, "group": ["version"]}, ("version", "model")),
    "cost": Page("Cost", _cost, {**_MONTH, "group": ["team"]}, GROUPS, True),
    "caches": Page("Caches", cache_content, _MONTH, GROUPS),
    "fleet": Page("Fleet over time", _fleet, {"last": ["7d"], "period": ["hour"]}),
}
urlpatterns = [
    path(
        f"admin/{name}/",
        admin.site.admin_view(partial(report_page, name=name)),
        name=f"{name}_page",
    )
    for name in PAGES
]
