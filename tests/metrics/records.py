"""Records of requests and the names that they refer to."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from metrics.models import DimensionName, RequestRecord, UsageDay

_numbers = count(1)
ZERO_TOTALS = {
    field.name: 0
    for field in UsageDay._meta.concrete_fields
    if field.name not in {"id", "team_id", "user_id", "key_id"}
    and field.get_internal_type() == "BigIntegerField"
}


def a_record(**fields: Any) -> RequestRecord:
    """A finished chat of user 1 that was admitted a minute ago, stored."""
    started = fields.pop("started_at", timezone.now() - timedelta(minutes=1))
    usual = {
        "run_id": f"chatcmpl-{next(_numbers)}",
        "settled_at": started + timedelta(seconds=2),
        "kind": "chat",
        "user_id": 1,
        "version_key": "m@v1",
        "outcome": "finished",
    }
    return RequestRecord.objects.create(started_at=started, **usual | fields)


def a_day(**fields: Any) -> UsageDay:
    """Totals of today, all of them 0."""
    usual = {"day": timezone.now().date(), "version_key": "m@v1", "user_id": 1, "mode": "single"}
    return UsageDay.objects.create(**ZERO_TOTALS | usual | {"kind": "chat"} | fields)


def a_name(kind: str, number: int, name: str, since: datetime | None = None) -> DimensionName:
    return DimensionName.objects.create(
        kind=kind, dimension_id=number, name=name, valid_from=since or timezone.now()
    )
