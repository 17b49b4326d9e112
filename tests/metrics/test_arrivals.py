"""Requests counted by when they came."""

from datetime import UTC, datetime, timedelta

import pytest

from metrics.arrivals import count_arrivals
from metrics.models import RequestRecord
from tests.metrics.test_recorder import record as record_fields

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def record(number: int, ended: datetime, seconds: float = 0.0, **fields: str) -> None:
    run_id = f"r{number}"
    record_fields(run_id=run_id, total_seconds=seconds, **fields)
    RequestRecord.objects.filter(run_id=run_id).update(created_at=ended)


def test_arrivals_are_counted_by_kind_version_and_minute() -> None:
    for number, seconds in enumerate((10, 20, 70)):
        record(number, NOON + timedelta(seconds=seconds))
    record(3, NOON + timedelta(seconds=15), kind="embedding")
    record(4, NOON + timedelta(seconds=15), version_key="m@w")
    found = count_arrivals(NOON, NOON + timedelta(hours=1), "minute")
    assert sorted(found) == [
        ("chat", "m@v", NOON.timestamp() + 10, 2),
        ("chat", "m@v", NOON.timestamp() + 70, 1),
        ("chat", "m@w", NOON.timestamp() + 15, 1),
        ("embedding", "m@v", NOON.timestamp() + 15, 1),
    ]
    assert sum(requests for *_, requests in count_arrivals(NOON, NOON + timedelta(1), "hour")) == 5
    assert len(count_arrivals(NOON, NOON + timedelta(days=1), "hour")) == 3


def test_arrivals_are_when_requests_came_not_when_they_ended() -> None:
    record(0, NOON + timedelta(seconds=10), seconds=100.0)
    ((_, _, first_at, _),) = count_arrivals(NOON, NOON + timedelta(hours=1), "hour")
    assert first_at == NOON.timestamp() - 90


def test_arrivals_of_successive_times_are_counted_once() -> None:
    record(0, NOON)
    assert count_arrivals(NOON, NOON + timedelta(hours=1), "hour") == []
    assert len(count_arrivals(NOON - timedelta(hours=1), NOON, "hour")) == 1
