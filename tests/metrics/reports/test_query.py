"""Parameters of reports: ranges in any time zone, and each bad one named."""

from datetime import UTC, timedelta
from itertools import pairwise

import pytest

from metrics.reports.query import MOST_BUCKETS, BadQueryError
from tests.metrics.reports.totals import moment, query


@pytest.mark.parametrize(
    ("param", "params", "says"),
    [
        ("colour", {"colour": "red"}, "Known: from, to"),
        ("group", {"group": "planet"}, "version, model"),
        ("group", {"group": ["model,planet"]}, "'planet'"),
        ("period", {"period": "minute"}, "hour, day, week, month"),
        ("tz", {"tz": "Mars/Olympus"}, "Mars/Olympus"),
        ("tz", {"tz": "Europe"}, "Europe/Berlin"),
        ("tz", {"tz": "../../etc/passwd"}, "time zone"),
        ("tz", {"tz": "a\0b"}, "time zone"),
        ("from", {"from_": "yesterday"}, "yesterday"),
        ("from", {"from_": "2026-02-30"}, "2026-02-30"),
        ("from", {"from_": "0001-01-01", "tz": "Asia/Tokyo"}, "0001-01-01"),
        ("to", {"to": "2026-11-31"}, "2026-11-31"),
        ("to", {"to": "9999-12-31"}, "9999-12-31"),
        ("from", {"to": "2026-11-01"}, "missing"),
        ("from", {"from_": "2026-11-02", "to": "2026-11-01"}, "before 'to'"),
        ("from", {"from_": "2026-11-02T10:00", "to": "2026-11-02T10:00"}, "before 'to'"),
        ("from", {"from_": "2027-01-01"}, "future"),
        ("from", {"from_": "2027-01-01", "to": "2027-02-01"}, "future"),
        ("from", {"from_": "9996-01-01", "to": "9999-12-31T23:59Z"}, "future"),
        ("from", {"from_": "1926-11-30"}, "5 years"),
        ("last", {"last": "3000w"}, "5 years"),
        ("last", {"last": "9999w"}, "5 years"),
        ("last", {"last": "30"}, "30d"),
        ("last", {"last": "0d"}, "30d"),
        ("last", {"last": "-3d"}, "30d"),
        ("last", {"last": "3d", "from_": "2026-11-01"}, "stands alone"),
        ("last", {"last": ["3d", "4d"]}, "2 times"),
        ("period", {"last": "1000d", "period": "hour"}, "2000"),
        ("compare", {"compare": "next"}, "previous"),
        ("format", {"format": "xlsx"}, "json, csv, html"),
        ("filter", {"filter": "model"}, "group:value"),
        ("filter", {"filter": "model:"}, "group:value"),
        ("filter", {"filter": "planet:mars"}, "planet"),
        ("filter", {"filter": "user:a\0b"}, "group:value"),
    ],
)
def test_query_names_a_bad_parameter(param: str, params: dict[str, str], says: str) -> None:
    with pytest.raises(BadQueryError) as caught:
        query(**params)
    assert caught.value.param == param
    assert says in str(caught.value)


def test_query_without_parameters_is_the_last_30_days() -> None:
    asked = query(now="2026-11-30T12:07")
    assert (asked.since, asked.until) == (moment("2026-11-01"), moment("2026-11-30T12:15"))
    assert (asked.zone.key, asked.period, asked.groups, asked.format) == ("UTC", "", (), "json")
    assert query(
        from_="", to="", tz="", filter="", group="", period="", now="2026-11-30T12:07"
    ) == (asked)


def test_query_takes_days_of_the_time_zone_with_the_last_one() -> None:
    asked = query(from_="2026-05-11", to="2026-05-11", tz="Asia/Kolkata")
    assert asked.since == moment("2026-05-10T18:30")
    assert asked.until == moment("2026-05-11T18:30")


def test_query_takes_moments_and_widens_them_to_quarters() -> None:
    asked = query(from_="2026-11-01T10:07", to="2026-11-01T12:01", tz="Europe/Berlin")
    assert (asked.since, asked.until) == (moment("2026-11-01T09:00"), moment("2026-11-01T11:15"))
    with_offset = query(from_="2026-11-01T10:00:00 02:00", to="2026-11-01T10:00Z")
    assert (with_offset.since.hour, with_offset.until.hour) == (8, 10)


@pytest.mark.parametrize(
    ("last", "since"), [("12h", "2026-11-30T00:00"), ("1d", "2026-11-30"), ("2w", "2026-11-17")]
)
def test_query_last_counts_today_as_a_day(last: str, since: str) -> None:
    assert query(last=last).since == moment(since)


def test_query_groups_may_be_repeated_or_listed() -> None:
    assert query(group=["model,user", "team", "user"]).groups == ("model", "user", "team")


@pytest.mark.parametrize(
    ("day", "quarters"), [("2026-10-24", 96), ("2026-10-25", 100), ("2026-03-29", 92)]
)
def test_query_days_of_berlin_have_their_quarters(day: str, quarters: int) -> None:
    asked = query(from_=day, to=day, tz="Europe/Berlin", period="hour")
    assert (asked.until - asked.since) / timedelta(minutes=15) == quarters
    lengths = {after - before for before, after in pairwise(asked.edges)}
    assert (lengths, len(asked.edges)) == ({timedelta(hours=1)}, quarters // 4 + 1)


def test_query_months_and_weeks_begin_as_the_calendar_says() -> None:
    months = query(from_="2026-01-10", to="2026-03-05", period="month", tz="Europe/Berlin").edges
    assert [edge.astimezone(query(tz="Europe/Berlin").zone).day for edge in months] == [10, 1, 1, 6]
    weeks = query(from_="2026-11-11", to="2026-11-24", period="week").edges
    assert weeks == [moment(f"2026-11-{day}") for day in (11, 16, 23, 25)]


def test_query_days_where_midnight_does_not_exist_meet() -> None:
    # Chile's clocks go from 24:00 to 01:00.
    asked = query(from_="2026-09-05", to="2026-09-07", period="day", tz="America/Santiago")
    assert [edge.hour for edge in asked.edges] == [4, 4, 3, 3]
    assert [edge.hour for edge in asked.previous.edges] == [4, 4, 4, 4]


def test_query_may_have_as_many_buckets_as_the_limit_says() -> None:
    hours = timedelta(hours=MOST_BUCKETS)
    since = moment("2026-11-30T12:00") - hours
    text = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")
    assert len(query(from_=text, period="hour").edges) == MOST_BUCKETS + 1


def test_query_previous_is_the_time_before() -> None:
    days = query(last="7d", now="2026-11-30T12:00").previous
    assert (days.since, days.until) == (moment("2026-11-17"), moment("2026-11-23T12:00"))
    hours = query(last="6h").previous
    assert (hours.since, hours.until) == (moment("2026-11-30T00:00"), moment("2026-11-30T06:00"))
    whole = query(from_="2026-10-01", to="2026-10-31", tz="Europe/Berlin").previous
    assert (whole.since, whole.until) == (moment("2026-08-30T22:00"), moment("2026-09-30T22:00"))
    assert query(last="52w", now="2026-11-30T12:00").previous.day_edges is not None


def test_query_knows_whole_days_of_the_zone_of_accounting(settings) -> None:
    settings.USAGE_TIME_ZONE = "Europe/Berlin"
    assert query(tz="UTC").day_edges is None
    assert query(last="12h").day_edges is None
    assert query(from_="2026-11-02", to="2026-11-03T10:00").day_edges is None
    assert query(last="2d", period="hour").day_edges is None
    found = query(from_="2026-10-24", to="2026-10-25", period="day").day_edges
    assert [str(day) for day in found] == ["2026-10-24", "2026-10-25", "2026-10-26"]
    until_now = query(last="2d", now="2026-11-30T12:07").day_edges
    assert [str(day) for day in until_now] == ["2026-11-29", "2026-12-01"]
