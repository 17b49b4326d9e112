"""The page of caches: hit rate, tokens and money that were saved."""

import pytest

from metrics.admin.caches import cache_content, saved_nano
from metrics.reports.usage import Row, Sums
from tests.metrics.reports.totals import add_slot, moment, query

pytestmark = pytest.mark.django_db


def test_caches_show_the_hits_of_each_tier_and_the_tokens_they_saved() -> None:
    slot = "2026-11-20T10:00"
    add_slot(slot, 6, prompt_tokens=600, completion_tokens=300, cost_nano=9_000_000_000)
    add_slot(slot, 3, tier="exact", prompt_tokens=300, completion_tokens=150)
    add_slot(slot, 1, tier="flight", prompt_tokens=100, completion_tokens=50)
    content = cache_content(query(tz="Asia/Tokyo", period="day"))
    figures = {name: (value, remark) for name, value, remark in content["figures"]}
    assert figures["Answered by caches"] == ("40.0%", "4 of 10 requests")
    assert figures["Tokens saved"][0] == "600"
    assert figures["Saved, about"][0] == "$6.00"
    (hits, tokens) = content["charts"]
    assert {one["name"]: sum(one["values"]) for one in hits["series"]} == {"exact": 3, "flight": 1}
    assert {one["name"]: sum(one["values"]) for one in tokens["series"]} == {
        "exact": 450,
        "flight": 150,
    }


def test_caches_without_requests_have_no_rate() -> None:
    content = cache_content(query(tz="Asia/Tokyo", period="day"))
    assert content["figures"][0][1] == "-"


def test_savings_are_counted_at_the_cost_of_each_version() -> None:
    def row(version: str, tier: str, tokens: int, nano: int = 0) -> Row:
        sums = Sums(prompt_tokens=tokens, cost_nano=nano)
        moments = moment("2026-11-20T10:00"), moment("2026-11-20T11:00")
        return Row(*moments, {"version": version, "tier": tier}, sums)

    rows = [
        row("a", "", 100, 1000),
        row("a", "exact", 50),
        row("b", "", 10, 9),
        row("b", "", 10, 9),
    ]
    assert saved_nano(rows) == 500
    assert saved_nano([*rows, row("b", "flight", 20)]) == 518
    assert saved_nano([row("c", "exact", 20)]) == 0
