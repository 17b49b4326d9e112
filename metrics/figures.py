"""What the records of a time say of one model: counts, tokens, latencies."""

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
    """Of some seconds; None where nothing was finished."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True)
class VersionFigures:
    """What became of the requests of one version.

    ``total`` and ``queue`` are the latencies of those that finished, in seconds.
    """

    version_key: str
    requests: int
    failed: int
    cancelled: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total: Percentiles
    queue: Percentiles


def figures_of_model(slug: str, since: datetime) -> list[VersionFigures]:
    """Figures of each version of a model that had a request.

    Args:
        slug: the model's id.
        since: the beginning of the time that counts.
    """
    table = RequestRecord._meta.db_table
    query = (
        f'SELECT {_COLUMNS} FROM "{table}" '  # noqa: S608 - both are constants
        "WHERE created_at >= %s AND starts_with(version_key, %s) GROUP BY version_key ORDER BY 1"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [since, f"{slug}@"])
        rows = cursor.fetchall()
    return [_figures(*row) for row in rows]


def _figures(
    version_key: str,
    requests: int,
    failed: int,
    cancelled: int,
    prompt_tokens: int,
    cached_tokens: int,
    completion_tokens: int,
    total: list[float | None] | None,
    queue: list[float | None] | None,
) -> VersionFigures:
    return VersionFigures(
        version_key,
        requests,
        failed,
        cancelled,
        prompt_tokens,
        cached_tokens,
        completion_tokens,
        _percentiles(total),
        _percentiles(queue),
    )


def _percentiles(values: list[float | None] | None) -> Percentiles:
    return Percentiles(*(values or (None, None, None)))
