"""Stored records of requests, and the names that they refer to."""

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from metrics.models import DimensionName, RequestRecord
from tests.metrics.rows import record

_PLAIN = {
    "user_id": 1,
    "key_id": None,
    "end_user": "",
    "request_id": "",
    "version_key": "m@v1",
    "queue_us": None,
    "ttft_us": None,
    "decode_us": None,
}


def a_record(**fields: Any) -> RequestRecord:
    """A finished chat of user 1 that was admitted a minute ago, stored."""
    started = fields.pop("started_at", timezone.now() - timedelta(minutes=1))
    stored = record(**_PLAIN | {"started_at": started, "settled_at": started} | fields)
    stored.save()
    return stored


def a_name(kind: str, number: int, name: str, since: datetime | None = None) -> DimensionName:
    return DimensionName.objects.create(
        kind=kind, dimension_id=number, name=name, valid_from=since or timezone.now()
    )
