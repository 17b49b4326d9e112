"""Requests, tokens and cost by bucket and group."""

from typing import Any

import pytest

from metrics.models import DimensionName, RefusedSlot
from metrics.reports import usage as usage_module
from metrics.reports.query import BadQueryError
from metrics.reports.usage import Sums, usage_report
from metrics.visibility import Visibility
from tests.metrics.reports.totals import add, add_day, add_slot, moment, query

pytestmark = pytest.mark.django_db


def counted(*names: str, **params: Any) -> list[tuple[Any, ...]]:
    """Values of the groups and number of requests of each row."""
    rows = usage_report(query(**params)).rows
    return [(*(row.group[name] for name in names), row.sums.requests) for row in rows]


def name(kind: str, number: int, text: str, since: str) -> None:
    DimensionName.objects.create(
        kind=kind, dimension_id=number, name=text, valid_from=moment(since)
    )


@pytest.fixture
def in_berlin(settings) -> None:
    settings.USAGE_TIME_ZONE = "Europe/Berlin"


def test_usage_counts_exact_days_of_any_time_zone(in_berlin: None) -> None:
    for slot in ("2026-05-10T18:15", "2026-05-10T18:30", "2026-05-11T18:15", "2026-05-11T18:30"):
        add_slot(slot)
    day = {"from_": "2026-05-11", "to": "2026-05-11"}
    assert usage_report(query(**day, tz="Asia/Kolkata")).totals.requests == 2
    # Kathmandu is 15 minutes ahead of Kolkata: the first slot is its 11 May, the last two its 12.
    days = {"from_": "2026-05-10", "to": "2026-05-12", "period": "day", "tz": "Asia/Kathmandu"}
    assert counted(**days) == [(2,), (2,)]


def test_usage_of_a_day_with_25_hours_has_all_of_them() -> None:
    for hour in range(22, 48):
        for minute in (0, 15, 30, 45):
            add_slot(f"2026-10-{24 + hour // 24}T{hour % 24:02}:{minute:02}")
    berlin = {"from_": "2026-10-25", "to": "2026-10-25", "tz": "Europe/Berlin"}
    assert counted(**berlin, period="day") == [(100,)]
    assert counted(**berlin, period="hour") == [(4,)] * 25


def test_usage_of_hours_days_and_the_range_are_equal() -> None:
    for day in range(1, 29):
        for hour in (0, 7, 23):
            add_slot(f"2026-11-{day:02}T{hour:02}:45", requests=day, cost_nano=day * 3)
    month = {"from_": "2026-11-01", "to": "2026-11-30", "tz": "Asia/Kathmandu"}
    for period in ("hour", "day", "week", "month", ""):
        report = usage_report(query(**month, period=period))
        assert report.totals.requests == sum(row.sums.requests for row in report.rows) == 1218
        assert report.totals.cost_nano == 3654


def test_usage_reads_whole_days_of_the_zone_of_accounting_from_days(in_berlin: None) -> None:
    add_day("2026-10-25", 3)
    add_day("2026-10-26", 4)
    add_slot("2026-10-25T12:00", 100)
    days = {"from_": "2026-10-25", "to": "2026-10-26"}
    assert counted(**days, period="day") == [(3,), (4,)]
    assert counted(**days) == [(7,)]
    assert counted(**days, tz="UTC") == [(100,)]
    assert counted(**days, period="hour") == [(100,)]


def test_usage_of_years_ago_comes_from_days_or_is_refused() -> None:
    add_day("2024-02-29", 5)
    ago = {"from_": "2024-02-01", "to": "2024-03-31"}
    assert counted(**ago, period="month") == [(5,)]
    with pytest.raises(BadQueryError, match="time zone UTC"):
        counted(**ago, tz="Europe/Berlin")


def test_usage_groups_by_every_dimension() -> None:
    add("2026-11-20T10:00", 1, user_id=1, key_id=5, team_id=9, version_key="a@v1")
    add("2026-11-20T10:00", 2, user_id=1, preset="p", mode="vote", version_key="a@v2")
    add("2026-11-20T10:15", 4, user_id=2, kind="embedding", tier="l1", version_key="b@v1")
    name("user", 1, "ann", "2026-01-01")
    assert counted("version", group="version") == [("b@v1", 4), ("a@v2", 2), ("a@v1", 1)]
    assert counted("model", group="model") == [("b", 4), ("a", 3)]
    assert counted("user", "user_id", group="user") == [("#2", 2, 4), ("ann", 1, 3)]
    assert counted("key", "key_id", group="key") == [("", None, 6), ("#5", 5, 1)]
    assert counted("team", group="team") == [("", 6), ("#9", 1)]
    assert counted("preset", "mode", group=["preset", "mode"]) == [
        ("", "single", 5),
        ("p", "vote", 2),
    ]
    assert counted("kind", "tier", group="kind,tier") == [("embedding", "l1", 4), ("chat", "", 3)]


def test_usage_filters_by_id_name_and_none() -> None:
    add("2026-11-20T10:00", 1, user_id=1, version_key="a@v1", key_id=5)
    add("2026-11-20T10:00", 2, user_id=2, version_key="a_b@v1")
    add("2026-11-20T10:00", 4, user_id=12, version_key="aXb@v1", tier="l1")
    name("user", 12, "bob", "2026-01-01")
    name("user", 12, "robert", "2026-11-25")
    name("key", 2, "bob", "2026-01-01")
    for filters, requests in (
        ("user:1", 1),
        ("user:bob", 4),
        ("user:robert", 4),
        (["user:1", "user:2"], 3),
        (["user:1", "model:a_b"], 0),
        ("model:a_b", 2),
        ("model:a", 1),
        ("version:a@v1", 1),
        ("key:none", 6),
        ("key:5", 1),
        ("tier:l1", 4),
        ("tier:none", 3),
        ("user:nobody", 0),
        ("user:99999999999999999999", 0),
        ("user:²", 0),
    ):
        assert usage_report(query(filter=filters)).totals.requests == requests, filters


def test_usage_shows_what_the_reader_may_see() -> None:
    add("2026-11-20T10:00", 1, user_id=1)
    add("2026-11-20T10:00", 2, user_id=2, team_id=7)
    add("2026-11-20T10:00", 4, user_id=3, team_id=8)
    RefusedSlot.objects.create(slot=moment("2026-11-20T10:00"), code="model_busy", requests=6)
    for visible, requests in (
        (Visibility(everything=True), 7),
        (Visibility(users=frozenset({1})), 1),
        (Visibility(users=frozenset({1}), teams=frozenset({7})), 3),
        (Visibility(), 0),
    ):
        report = usage_report(query(visible=visible, compare="previous", group="user"))
        assert report.totals.requests == requests
        assert report.refused == ({"model_busy": 6} if visible.everything else None)
    # A filter never widens the part that is visible.
    own = Visibility(users=frozenset({1}))
    assert usage_report(query(visible=own, filter="user:2")).totals == Sums()


def test_usage_figures_have_exact_money_and_rates_of_requests() -> None:
    sums = Sums(
        requests=8,
        finished=4,
        failed=2,
        cancelled=2,
        fallbacks=1,
        cache_hits=2,
        prompt_tokens=30,
        cached_tokens=10,
        completion_tokens=20,
        finished_us=6_000_000,
        device_us=1_500_000,
        cost_nano=25_000_000_000_000_004,
        correction_nano=-5,
    )
    assert sums.figures() == {
        "requests_count": 8,
        "failed_count": 2,
        "cancelled_count": 2,
        "tokens_input": 30,
        "tokens_cached": 10,
        "tokens_output": 20,
        "avg_response_time_ms": 1500.0,
        "error_rate": 0.25,
        "fallback_rate": 0.125,
        "cache_hit_rate": 0.25,
        "device_seconds": 1.5,
        "estimated_cost": "25000000.000000004",
        "cost_corrections": "-0.000000005",
        "cost_after_corrections": "24999999.999999999",
    }
    nothing = Sums().figures()
    assert nothing["estimated_cost"] == "0.000000000"
    assert nothing["error_rate"] is nothing["avg_response_time_ms"] is None


def test_usage_adds_up_all_sums() -> None:
    add("2026-11-20T10:00", 3, failed=1, finished=2, fallbacks=2, cost_nano=1 << 40)
    add("2026-11-20T10:15", 4, tier="l1", correction_nano=-7, prompt_tokens=1 << 33)
    totals = usage_report(query(group="tier")).totals
    assert totals == Sums(
        requests=7,
        finished=2,
        failed=1,
        fallbacks=2,
        cache_hits=4,
        cost_nano=1 << 40,
        correction_nano=-7,
        prompt_tokens=1 << 33,
    )


def test_usage_has_the_mean_time_of_models_without_answers_of_caches() -> None:
    add("2026-11-20T10:00", 2, finished_us=6_000_000)
    add("2026-11-20T10:00", 8, tier="l1", finished_us=40_000)
    report = usage_report(query(group="tier"))
    means = [row.figures()["avg_response_time_ms"] for row in (*report.rows, report.totals)]
    assert means == [None, 3000.0, 3000.0]


def test_usage_compares_with_the_time_before() -> None:
    add("2026-11-30T10:00", 1)
    add("2026-11-29T10:00", 2)
    add("2026-11-29T12:30", 4)
    report = usage_report(query(last="1d", tz="Asia/Tokyo", compare="previous"))
    assert (report.totals.requests, report.previous) == (1, Sums(requests=2, finished=2))
    assert usage_report(query(last="1d", tz="Asia/Tokyo")).previous is None


def test_usage_keeps_old_names_in_old_reports() -> None:
    add("2026-10-10T10:00", user_id=1)
    add("2026-11-10T10:00", user_id=1)
    name("user", 1, "ann", "2026-01-01")
    name("user", 1, "ann-marie", "2026-11-01")
    october = {"from_": "2026-10-01", "to": "2026-10-31", "group": "user"}
    assert counted("user", **october) == [("ann", 1)]
    assert counted("user", last="30d", group="user") == [("ann-marie", 1)]


def test_usage_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_module, "MOST_ROWS", 2)
    for user_id in range(3):
        add("2026-11-20T10:00", user_id=user_id)
    assert counted() == [(3,)]
    with pytest.raises(BadQueryError, match="more than 2 rows") as caught:
        counted(group="user")
    assert caught.value.param == "group"


def test_usage_refusals_are_counted_in_the_range() -> None:
    for slot, code, requests in (
        ("2026-11-20T10:00", "model_busy", 2),
        ("2026-11-20T10:15", "model_busy", 3),
        ("2026-11-20T10:15", "queue_full", 9),
        ("2026-09-20T10:15", "queue_full", 90),
    ):
        RefusedSlot.objects.create(slot=moment(slot), code=code, requests=requests)
    assert usage_report(query()).refused == {"queue_full": 9, "model_busy": 5}
    assert usage_report(query(filter="user:1")).refused is None
