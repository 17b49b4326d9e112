"""Percentiles of times by version and bucket."""

from collections import Counter
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from metrics.models import ShapeDay
from metrics.reports.latency import Percentiles, latency_report
from metrics.reports.query import BadQueryError
from metrics.visibility import Visibility
from tests.metrics.reports.totals import add_shape, moment, query

pytestmark = pytest.mark.django_db
TOKYO = {"tz": "Asia/Tokyo"}


def test_latency_merges_slots_within_two_percent() -> None:
    times = np.random.default_rng(7).lognormal(12, 1.2, 3000)
    for number, part in enumerate(np.split(times, 3)):
        add_shape(f"2026-11-20T0{number}:00", "ttft", part)
    (row,) = latency_report(query(**TOKYO)).rows
    found = row.times["ttft"]
    expected = np.percentile(times, [50, 95, 99]) / 1000
    assert np.allclose([found.p50, found.p95, found.p99], expected, rtol=0.02)
    assert (found.count, row.times["itl"]) == (3000, Percentiles())
    assert (row.since, row.group) == (moment("2026-10-31T15:00"), {"version": "m@v1"})


def test_latency_is_by_version_and_bucket() -> None:
    add_shape("2026-11-20T14:45", "total", [1_000_000])
    add_shape("2026-11-20T15:00", "total", [2_000_000] * 3)
    add_shape("2026-11-20T15:00", "total", [3_000_000], "n@v1")
    add_shape("2026-11-20T15:00", "queue", [50_000], "n@v2")
    rows = latency_report(query(**TOKYO, period="day")).rows
    assert [(row.since.day, row.group["version"], row.times["total"].count) for row in rows] == [
        (19, "m@v1", 1),
        (20, "m@v1", 3),
        (20, "n@v1", 1),
        (20, "n@v2", 0),
    ]
    assert rows[1].figures()["total_p95_ms"] == pytest.approx(2000, rel=0.02)
    by_model = latency_report(query(**TOKYO, group="model")).rows
    assert [(row.group, row.times["total"].count) for row in by_model] == [
        ({"model": "m"}, 4),
        ({"model": "n"}, 1),
    ]
    for filters, versions in (
        ("model:n", ["n@v1", "n@v2"]),
        ("version:n@v2", ["n@v2"]),
        (["version:n@v2", "version:m@v1"], ["m@v1", "n@v2"]),
        (["version:n@v2", "model:m"], []),
    ):
        rows = latency_report(query(**TOKYO, filter=filters)).rows
        assert [row.group["version"] for row in rows] == versions


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "Asia/Kathmandu", "Asia/Kolkata"])
def test_latency_of_whole_hours_and_cut_ones_counts_each_request_once(zone: str) -> None:
    """In Kathmandu a day begins at 18:15 of UTC."""
    slots = [
        f"2026-11-20T{hour}:{minute}" for hour in (18, 19) for minute in ("00", "15", "30", "45")
    ]
    for slot in slots:
        add_shape(slot, "total", [1_000_000])
    rows = latency_report(query(tz=zone, period="day")).rows
    found = {str(row.since.astimezone(ZoneInfo(zone)).date()): row.times["total"] for row in rows}
    expected = Counter(str(moment(slot).astimezone(ZoneInfo(zone)).date()) for slot in slots)
    assert {day: times.count for day, times in found.items()} == expected


def test_latency_reads_whole_days_from_days() -> None:
    add_shape("2026-11-20T14:45", "total", [1_000_000])
    ShapeDay.objects.all().delete()
    ShapeDay.objects.create(
        day=moment("2026-11-20").date(), version_key="d@v1", measure="itl", buckets=[3], counts=[5]
    )
    (row,) = latency_report(query(period="week")).rows
    assert (row.group["version"], row.times["itl"].count) == ("d@v1", 5)


@pytest.mark.parametrize(("param", "value"), [("group", "user"), ("filter", "key:3")])
def test_latency_by_user_is_refused(param: str, value: str) -> None:
    with pytest.raises(BadQueryError, match="version and model") as caught:
        latency_report(query(**{param: value}))
    assert caught.value.param == param


def test_latency_of_versions_is_for_every_reader() -> None:
    add_shape("2026-11-20T14:45", "total", [1_000_000])
    assert len(latency_report(query(**TOKYO, visible=Visibility())).rows) == 1
