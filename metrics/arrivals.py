"""Requests counted by when they came: the input of demand prediction."""

from datetime import datetime
from typing import Final, Literal

from django.db import connection

from metrics.models import RequestRecord

# Records are written when a request ends; the index on created_at bounds what is read.
_ARRIVALS: Final = f"""
    SELECT kind, version_key, extract(epoch FROM min(arrived_at))::float8, count(*)
    FROM (
        SELECT kind, version_key, created_at - make_interval(secs => total_seconds) AS arrived_at
        FROM "{RequestRecord._meta.db_table}" WHERE created_at > %s AND created_at <= %s
    ) AS requests
    GROUP BY kind, version_key, date_trunc(%s, arrived_at)
"""  # noqa: S608 - a constant


def count_arrivals(
    after: datetime, until: datetime, resolution: Literal["minute", "hour"]
) -> list[tuple[str, str, float, int]]:
    """Count the requests that ended after ``after`` and not after ``until``, by their arrival.

    Returns:
        Kind, version key, arrival of the first (Unix seconds) and number of the requests of each
        kind, version, and minute or hour.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ARRIVALS, [after, until, resolution])
        return list(cursor.fetchall())
