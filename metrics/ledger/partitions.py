"""The table of records by month: partitions ahead of time, and old ones dropped."""

from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction

RECORDS: Final = "metrics_requestrecord"
DEFAULT_PARTITION: Final = f"{RECORDS}_default"
# Totals by slot, refusals and the fleet's samples; totals by day stay for ever.
SLOT_DAYS: Final = 400
# While a change waits for a report or a backup, all records that are written wait behind it.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '1s'"
# Tables whose rows are deleted by the time in a column.
_OLD_ROWS: Final = {
    "metrics_usageslot": "slot",
    "metrics_shapeslot": "slot",
    "metrics_shapehour": "hour",
    "metrics_refusedslot": "slot",
    "metrics_fleetsample": "taken_at",
}


def ensure_partitions(now: datetime) -> None:
    """Create the partitions of this and the next month."""
    begin = _month_of(now)
    for month in {begin, _next(begin)} - set(months()):
        _create(month)


def months() -> list[datetime]:
    """Return the beginnings of the months that have a partition, the oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right(relname, 7) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
            "WHERE inhparent = %s::regclass AND relname <> %s ORDER BY 1",
            [RECORDS, DEFAULT_PARTITION],
        )
        return [datetime.strptime(f"{name}+0000", "%Y_%m%z") for (name,) in cursor.fetchall()]


def drop_expired(now: datetime, days: int) -> None:
    """Drop the months whose records are all more than ``days`` old, and totals by old slots.

    A month that has a mark stays: its totals are not complete yet.
    """
    for month in months():
        if _next(month) <= now - timedelta(days=days):
            _drop(month)
    # Totals of a slot stay at least as long as its records, which go by whole months.
    oldest = now - timedelta(days=max(SLOT_DAYS, days + 31))
    with connection.cursor() as cursor:
        for table, column in _OLD_ROWS.items():
            # Whole days, since a day's totals are computed from all of its slots.
            cursor.execute(
                f"DELETE FROM {table} WHERE {column} < date_trunc('day', %s, %s)",  # noqa: S608
                [oldest, settings.USAGE_TIME_ZONE],
            )


def _create(month: datetime) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK_TIMEOUT)
        name, span = _name(month), [month, _next(month)]
        # The default partition may have records of a month that was not created in time. Others can
        # use the table while a partition is attached, but not while one is created in it.
        cursor.execute(f"LOCK TABLE {DEFAULT_PARTITION}")
        if month in months():
            return  # another controller was faster
        cursor.execute(f"CREATE TABLE {name} (LIKE {RECORDS} INCLUDING ALL EXCLUDING IDENTITY)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {DEFAULT_PARTITION} "  # noqa: S608
            "WHERE started_at >= %s AND started_at < %s RETURNING *) "
            f"INSERT INTO {name} SELECT * FROM moved",
            span,
        )
        cursor.execute(
            f"ALTER TABLE {RECORDS} ATTACH PARTITION {name} FOR VALUES FROM (%s) TO (%s)", span
        )


def _drop(month: datetime) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK_TIMEOUT)
        # Records and their marks are written in one transaction: after this none is under way.
        cursor.execute(f"LOCK TABLE {RECORDS}")
        span = [month, _next(month)]
        cursor.execute(
            "SELECT EXISTS (SELECT FROM metrics_rollmark WHERE slot >= %s AND slot < %s)", span
        )
        if cursor.fetchone() == (True,):
            return
        cursor.execute(f"DROP TABLE IF EXISTS {_name(month)}")
        cursor.execute(
            "DELETE FROM metrics_requeststep WHERE started_at >= %s AND started_at < %s", span
        )


def _name(month: datetime) -> str:
    return f"{RECORDS}_{month:%Y_%m}"


def _month_of(moment: datetime) -> datetime:
    utc = moment.astimezone(UTC)
    return datetime(utc.year, utc.month, 1, tzinfo=UTC)


def _next(month: datetime) -> datetime:
    return _month_of(month + timedelta(days=31))
