"""When requests came, counted: what demand is foreseen from."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from django.db import connection

from metrics.models import RequestRecord

# Records are written when a request ends; the index on created_at bounds what is read.
_ARRIVALS: Final = f"""
    SELECT kind, version_key, min(arrived_at), count(*)
    FROM (
        SELECT kind, version_key, created_at - make_interval(secs => total_seconds) AS arrived_at
        FROM "{RequestRecord._meta.db_table}" WHERE created_at > %s AND created_at <= %s
    ) AS requests
    GROUP BY kind, version_key, date_trunc(%s, arrived_at)
"""  # noqa: S608 - a constant


@dataclass(frozen=True)
class ArrivalCount:
    """Requests of one kind for one version that came within one minute or hour."""

    kind: str
    version_key: str
    first_at: datetime
    requests: int


def count_arrivals(
    after: datetime, until: datetime, resolution: Literal["minute", "hour"]
) -> list[ArrivalCount]:
    """Count the requests that ended after ``after`` and not after ``until``, by their arrival.

    Successive times count each request once.

    Args:
        after, until: the time of the end.
        resolution: of the arrival.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ARRIVALS, [after, until, resolution])
        return [ArrivalCount(*row) for row in cursor.fetchall()]
