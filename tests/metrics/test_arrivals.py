"""Requests counted by when they came."""

from datetime import UTC, datetime, timedelta

import pytest

from metrics.arrivals import count_arrivals
from tests.metrics.records import a_record

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def record(ended: datetime, seconds: float = 0.0, **fields: str) -> None:
    a_record(started_at=ended - timedelta(seconds=seconds), settled_at=ended, **fields)


def test_arrivals_are_counted_by_kind_version_and_minute() -> None:
    for seconds in (10, 20, 70):
        record(NOON + timedelta(seconds=seconds))
    record(NOON + timedelta(seconds=15), kind="embedding")
    record(NOON + timedelta(seconds=15), version_key="m@w")
    found = count_arrivals(NOON, NOON + HOUR, "minute", HOUR)
    assert sorted(found) == [
        ("chat", "m@v1", NOON.timestamp() + 10, 2),
        ("chat", "m@v1", NOON.timestamp() + 70, 1),
        ("chat", "m@w", NOON.timestamp() + 15, 1),
        ("embedding", "m@v1", NOON.timestamp() + 15, 1),
    ]
    by_hour = count_arrivals(NOON, NOON + timedelta(days=1), "hour", HOUR)
    assert (len(by_hour), sum(requests for *_, requests in by_hour)) == (3, 5)


def test_arrivals_are_when_requests_came_not_when_they_ended() -> None:
    record(NOON + timedelta(seconds=10), seconds=100)
    ((_, _, first_at, _),) = count_arrivals(NOON, NOON + HOUR, "hour", HOUR)
    assert first_at == NOON.timestamp() - 90


def test_arrivals_of_successive_times_are_counted_once() -> None:
    record(NOON, seconds=100)
    assert count_arrivals(NOON, NOON + HOUR, "hour", HOUR) == []
    assert len(count_arrivals(NOON - HOUR, NOON, "hour", HOUR)) == 1
