"""Histograms of times: percentiles within 2 %, and the same buckets in Python and in SQL."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db import connection

from metrics.ledger.buckets import GAMMA, bucket_sql, merged_sql, percentile, value_of
from metrics.models import ShapeSlot
from tests.metrics.rows import bucket_of

FRACTIONS = (0.0, 0.5, 0.95, 0.99, 1.0)


def histogram(times: np.ndarray) -> tuple[list[int], list[int]]:
    counts = Counter(bucket_of(time) for time in times.tolist())
    return list(counts), list(counts.values())


@pytest.mark.parametrize(("mean", "sigma"), [(6.0, 0.3), (11.0, 1.0), (16.0, 2.5)])
@pytest.mark.parametrize("number", [1, 2, 7, 100_000])
def test_percentiles_are_within_two_percent(mean: float, sigma: float, number: int):
    times = np.random.default_rng(number).lognormal(mean, sigma, number) + 1
    buckets, counts = histogram(times)
    for fraction in FRACTIONS:
        found = percentile(buckets, counts, fraction)
        assert found == pytest.approx(np.quantile(times, fraction), rel=0.02)


def test_percentile_of_nothing_is_none():
    assert percentile([], [], 0.5) is None


def test_values_of_buckets_are_within_two_percent_of_their_ends():
    for time in (*range(1, 3000), 10**6, 10**9, 86_400 * 10**6):
        assert value_of(bucket_of(time)) == pytest.approx(time, rel=0.02)
    assert bucket_of(0) == bucket_of(-5) == bucket_of(0.3) == bucket_of(1) == 0
    assert bucket_of(86_400e6 * 365) < 1024


@pytest.mark.django_db
def test_buckets_in_sql_are_those_of_python():
    ends = [GAMMA**power for power in range(1, 650)]
    whole = {round(end) + step for end in ends for step in (-1, 0, 1)}
    times = [
        -1.0,
        0.0,
        0.2,
        1.0,
        *map(float, sorted(whole)),
        *np.geomspace(1, 1e11, 5_000).tolist(),
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {bucket_sql('time')} FROM unnest(%s::float8[]) WITH ORDINALITY AS t(time, n) "
            "ORDER BY n",
            [times],
        )
        assert [bucket for (bucket,) in cursor.fetchall()] == [bucket_of(time) for time in times]


@pytest.mark.django_db
def test_merged_histograms_are_sums_by_group_in_order():
    slot = datetime(2026, 5, 10, tzinfo=UTC)
    rows = [
        ("m@v", 0, [5, 1023], [2, 3]),
        ("m@v", 1, [0, 5], [10, 20]),
        ("m@v", 96, [7], [1]),
        ("m@w", 0, [5], [2_000_000_000]),
        ("m@w", 1, [5], [2_000_000_000]),
    ]
    ShapeSlot.objects.bulk_create(
        ShapeSlot(
            version_key=version,
            slot=slot + number * timedelta(minutes=15),
            measure="total",
            buckets=buckets,
            counts=counts,
        )
        for version, number, buckets, counts in rows
    )
    by = {"day": "(slot AT TIME ZONE %(zone)s)::date", "version_key": "version_key"}
    with connection.cursor() as cursor:
        cursor.execute(
            merged_sql("metrics_shapeslot", "measure = %(measure)s", by),
            {"zone": "UTC", "measure": "total"},
        )
        found = {(day.day, version): entries for day, version, *entries in cursor.fetchall()}
    assert found == {
        (10, "m@v"): [[0, 5, 1023], [10, 22, 3]],
        (11, "m@v"): [[7], [1]],
        (10, "m@w"): [[5], [4_000_000_000]],
    }
