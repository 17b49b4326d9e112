"""Counts, tokens and latencies of one model's requests, aggregated by version."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection

from metrics.models import RequestRecord

_COLUMNS: Final = """
    version_key, count(*),
    count(*) FILTER (WHERE outcome = 'failed'), count(*) FILTER (WHERE outcome = 'cancelled'),
    sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY total_seconds)
        FILTER (WHERE outcome = 'finished'),
    percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY queue_seconds)
        FILTER (WHERE outcome = 'finished')
"""


@dataclass(frozen=True)
class Percentiles:
    """Seconds; None where no request finished."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class VersionStatistics:
    """The requests of one version; ``total`` and ``queue`` are latencies of finished ones."""

    version_key: str
    requests: int
    failed: int
    cancelled: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total: Percentiles
    queue: Percentiles


def model_statistics(slug: str, since: datetime) -> list[VersionStatistics]:
    """Aggregate the requests of model ``slug`` that ended after ``since``, by version."""
    table = RequestRecord._meta.db_table
    query = (
        f'SELECT {_COLUMNS} FROM "{table}" '  # noqa: S608 - both are constants
        "WHERE created_at >= %s AND starts_with(version_key, %s) GROUP BY version_key ORDER BY 1"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [since, f"{slug}@"])
        rows = cursor.fetchall()
    found = []
    for row in rows:
        latencies = [Percentiles(*(one or (None, None, None))) for one in row[-2:]]
        found.append(VersionStatistics(*row[:-2], *latencies))
    return found
