"""Answers of caches over time: hit rate by tier, and the tokens and money that they saved."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from metrics.admin import charts
from metrics.display import NOTHING, money
from metrics.reports.formats import group_name, table_of
from metrics.reports.query import Query
from metrics.reports.usage import Row, Sums, usage_report, usage_rows


def cache_content(query: Query) -> dict[str, Any]:
    """The parts of the page; requests of the tier ``none`` were answered by a model."""
    query = replace(query, groups=(*(one for one in query.groups if one != "tier"), "tier"))
    report, whole = usage_report(query), usage_report(replace(query, period=""))
    sums = report.totals
    saved = saved_tokens(row.sums for row in whole.rows if row.group["tier"])
    nano = saved_nano(usage_rows(replace(query, period="", groups=("version", "tier"))))
    hits = [
        (row.since, group_name(row.group), row.sums.requests)
        for row in report.rows
        if row.group["tier"]
    ]
    tokens = [
        (row.since, group_name(row.group), saved_tokens([row.sums]))
        for row in report.rows
        if row.group["tier"]
    ]
    names = charts.heaviest((name, count) for _, name, count in hits)
    rate = f"{sums.cache_hits / sums.requests:.1%}" if sums.requests else NOTHING
    return {
        "rows": report.rows,
        "figures": [
            ("Answered by caches", rate, f"{sums.cache_hits:,} of {sums.requests:,} requests"),
            ("Tokens saved", f"{saved:,}", "of prompts and answers, not computed"),
            ("Saved, about", money(nano), "at the mean cost of each version's own answers"),
        ],
        "charts": [
            charts.chart(query, title, "count", charts.bars(query, names, values))
            for title, values in (("Requests answered by caches", hits), ("Tokens saved", tokens))
        ],
        "tables": [table_of(whole, "Totals"), table_of(report, "Over time")],
        "as_of": report.as_of,
    }


def saved_tokens(hits: Iterable[Sums]) -> int:
    return sum(one.prompt_tokens + one.completion_tokens for one in hits)


def saved_nano(rows: Iterable[Row]) -> int:
    """The cost that hits would have had by the mean cost of a token of their version: pure."""
    answered: dict[str, Sums] = defaultdict(Sums)
    hits: dict[str, Sums] = defaultdict(Sums)
    for row in rows:
        kind = hits if row.group["tier"] else answered
        kind[row.group["version"]] += row.sums
    saved = 0
    for version, sums in hits.items():
        own = answered[version]
        saved += saved_tokens([sums]) * own.total_nano // (saved_tokens([own]) or 1)
    return saved
