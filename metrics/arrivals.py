"""Requests counted by when they came: the input of demand prediction."""

from datetime import datetime, timedelta
from typing import Literal

from django.db.models import Count, Min
from django.db.models.functions import Trunc

from metrics.models import RequestRecord


def count_arrivals(
    after: datetime,
    until: datetime,
    resolution: Literal["minute", "hour"],
    longest: timedelta,
) -> list[tuple[str, str, float, int]]:
    """Count the requests that ended after ``after`` and not after ``until``, by their arrival.

    Requests that took more than ``longest`` may be left out.

    Returns:
        Kind, version key, arrival of the first (Unix seconds) and number of the requests of each
        kind, version, and minute or hour.
    """
    ended = RequestRecord.objects.filter(settled_at__gt=after, settled_at__lte=until)
    # Only started_at has an index.
    came = ended.filter(started_at__gt=after - longest, started_at__lte=until)
    counts = (
        came.annotate(at=Trunc("started_at", resolution))
        .values("kind", "version_key", "at")
        .annotate(first=Min("started_at"), requests=Count("*"))
        .order_by()
        .values_list("kind", "version_key", "first", "requests")
    )
    return [(kind, version, first.timestamp(), n) for kind, version, first, n in counts]
