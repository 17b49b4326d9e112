"""Requests counted by when they came: the input of demand prediction."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal

from django.db import connection

from metrics.models import RequestRecord

# Records are written when requests have ended; the index on started_at bounds what is read.
_ARRIVALS: Final = f"""
    SELECT kind, version_key, extract(epoch FROM min(started_at))::float8, count(*)
    FROM "{RequestRecord._meta.db_table}"
    WHERE started_at > %(after)s - %(longest)s AND started_at <= %(until)s
        AND settled_at > %(after)s AND settled_at <= %(until)s
    GROUP BY kind, version_key, date_trunc(%(resolution)s, started_at)
"""  # noqa: S608 - a constant


def count_arrivals(
    after: datetime,
    until: datetime,
    resolution: Literal["minute", "hour"],
    longest: timedelta,
) -> list[tuple[str, str, float, int]]:
    """Count the requests that ended after ``after`` and not after ``until``, by their arrival.

    Args:
        after: when the first of them ended at the earliest.
        until: when the last of them ended at the latest.
        resolution: of the arrivals.
        longest: how long a request may take; longer ones may be left out.

    Returns:
        Kind, version key, arrival of the first (Unix seconds) and number of the requests of each
        kind, version, and minute or hour.
    """
    values: dict[str, Any] = {
        "after": after,
        "until": until,
        "resolution": resolution,
        "longest": longest,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ARRIVALS, values)
        return list(cursor.fetchall())
