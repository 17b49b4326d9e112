"""Proof that the ledger is exact: figures that were counted apart are compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import redis
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from metrics.ledger.partitions import DEFAULT_PARTITION, months
from metrics.ledger.roll import DIMENSIONS, roll
from metrics.ledger.slots import SLOT_OF_RECORD
from metrics.models import RollMark

OPEN: Final = "brigade:open"
UNWRITTEN: Final = "brigade:unwritten"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS: Final = 41


@dataclass(frozen=True)
class Finding:
    """Two counts of the same thing. ``difference`` is 0 when they agree.

    It may exceed ``right - left``: differences of groups do not cancel each other.
    """

    name: str
    left: int
    right: int
    difference: int
    meaning: str


@dataclass(frozen=True)
class _Day:
    """The counts of Redis for the requests that were admitted in a part of a day."""

    begin: datetime
    end: datetime
    accepted: int
    computed: int


@dataclass(frozen=True)
class _Snapshot:
    """The counts of Redis at one moment, the newest day first."""

    in_progress: set[str]
    days: list[_Day]


def in_progress(client: redis.Redis) -> set[str]:
    """Return the runs that are not in Postgres yet: they run, or their record waits."""
    return {run.decode() for key in (OPEN, UNWRITTEN) for run in client.hkeys(key)}


def check(client: redis.Redis) -> list[Finding]:
    """Roll, and compare; requests may come and end meanwhile."""
    before = list(RollMark.objects.values_list("id", flat=True))
    roll()
    left_behind = RollMark.objects.filter(id__in=before).count()
    snapshot = _snapshot(client)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ...
