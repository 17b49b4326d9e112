"""Proof that the ledger is exact: figures that were counted apart from each other are compared."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import redis
from django.conf import settings
from django.db import connection, transaction

from metrics.ledger import store
from metrics.ledger.entry import decode_entry
from metrics.ledger.partitions import months
from metrics.ledger.roll import DIMENSIONS, roll
from metrics.ledger.slots import SLOT_OF_RECORD

_LOST: Final = "Accepted requests have no record, or records have no accepted request."
_ENGINES: Final = "Engines computed other tokens than the records say."
_STALE: Final = "Totals are not what they are computed from. A RollMark for the time mends them."
_GROUP: Final = ", ".join(DIMENSIONS)
_DAY: Final = "(slot AT TIME ZONE %(zone)s)::date"
_SUMS: Final = "requests, prompt_tokens + completion_tokens, cost_nano + correction_nano"
_COLUMNS: Final = f"place, {_GROUP}, requests, tokens, nano"
# Records of a slot with a mark came after the roll.
_rolled = "NOT EXISTS (SELECT FROM metrics_rollmark WHERE metrics_rollmark.slot = {})".format
_RECORDS: Final = f"""
    SELECT {SLOT_OF_RECORD}, {_GROUP}, 1, prompt_tokens + completion_tokens, cost_nano
    FROM metrics_requestrecord
    WHERE started_at >= %(oldest)s AND {_rolled(SLOT_OF_RECORD)}
    UNION ALL SELECT slot, {_GROUP}, 0, 0, delta_nano FROM metrics_correction
    WHERE slot >= %(oldest)s AND {_rolled("metrics_correction.slot")}"""  # noqa: S608 - constants
_SLOTS: Final = f"""
    SELECT slot, {_GROUP}, {_SUMS} FROM metrics_usageslot
    WHERE slot >= %(oldest)s AND {_rolled("metrics_usageslot.slot")}"""  # noqa: S608 - constants
_SLOTS_BY_DAY: Final = f"SELECT {_DAY}, {_GROUP}, {_SUMS} FROM metrics_usageslot"  # noqa: S608
_DAYS: Final = f"""
    SELECT day, {_GROUP}, {_SUMS} FROM metrics_usageday
    WHERE day >= (SELECT min({_DAY}) FROM metrics_usageslot)"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Finding:
    """Two counts of the same thing.

    Attributes:
        difference: the sum over the times at which they were compared, so differences do not cancel
            each other; for totals the number of groups whose requests, tokens or cost differ.
        places: the times at which the counts differ.
        meaning: of a difference.
    """

    name: str
    left: int
    right: int
    difference: int
    places: list[str]
    meaning: str


# Time, two counts, and their difference.
_Row = tuple[object, int, int, int]


def count_in_progress(client: redis.Redis) -> int:
    """Count the requests without a record in Postgres: they go on, or their record waits."""
    counts: Any = (client.hlen(store.OPEN), client.hlen(store.UNWRITTEN))
    return sum(counts)


def check(client: redis.Redis) -> list[Finding]:
    """Roll, and compare. Requests may come and end meanwhile.

    Tokens that engines computed are compared only while no request is in progress: those of a
    request in progress may be counted already, or not.
    """
    roll()
    found = _against_redis(client)
    values = {"oldest": months()[0], "zone": settings.USAGE_TIME_ZONE}
    with transaction.atomic():
        # Postgres expects a group for each record, and would sort all records on disk.
        _query("SET LOCAL enable_sort = off")
        slots = _query(_compared(_RECORDS, _SLOTS), **values)
        days = _query(_compared(_SLOTS_BY_DAY, _DAYS), **values)
    return [
        *found,
        _finding("totals: records = quarters of an hour", slots, _STALE),
        _finding("totals: quarters of an hour = days", days, _STALE),
    ]


def _against_redis(client: redis.Redis) -> list[Finding]:
    """Compare the records with what Redis has counted since its counts of a day began."""
    days = [int(key.rpartition(b":")[2]) for key in client.scan_iter(store.day_key("*"))]
    # One moment for all: then a run is in progress, or it has a record, or it is accepted later.
    pipeline = client.pipeline(transaction=True)
    pipeline.time()
    for key in (store.OPEN, store.UNWRITTEN, *map(store.day_key, days)):
        pipeline.hgetall(key)
    (seconds, microseconds), opened, unwritten, *counts = pipeline.execute()
    end = store.moment_of(seconds * 1_000_000 + microseconds)
    in_progress = {
        run.decode(): store.moment_of(value.split(b" ", 1)[0]) for run, value in opened.items()
    }
    in_progress |= {run.decode(): _started_at(value) for run, value in unwritten.items()}
    requests: list[_Row] = []
    tokens: list[_Row] = []
    oldest = months()[0]
    for day, count in zip(days, counts, strict=True):
        begin = store.moment_of(day * 86_400_000_000)
        if b"since" not in count or begin < oldest:
            continue
        since = store.moment_of(count[b"since"])
        until = min(begin + timedelta(days=1), end + timedelta(microseconds=1))
        ((recorded, computed),) = _query(
            "SELECT count(*), "
            "coalesce(sum(computed_prompt_tokens + computed_completion_tokens), 0) "
            "FROM metrics_requestrecord WHERE started_at >= %(since)s AND started_at < %(until)s "
            "AND run_id <> ALL(%(in_progress)s)",
            since=since,
            until=until,
            in_progress=list(in_progress),
        )
        recorded += sum(since <= moment < until for moment in in_progress.values() if moment)
        accepted = int(count.get(b"accepted", 0))
        engines = int(count.get(b"computed_prompt", 0)) + int(count.get(b"computed_completion", 0))
        requests.append((begin.date(), accepted, recorded, abs(accepted - recorded)))
        tokens.append((begin.date(), engines, computed, abs(engines - computed)))
    found = [_finding("requests: accepted = recorded or in progress", requests, _LOST)]
    if not in_progress:
        found.append(_finding("computed tokens: engines = records", tokens, _ENGINES))
    return found


def _started_at(value: bytes) -> datetime | None:
    try:
        return decode_entry(value).record.started_at
    except (msgspec.DecodeError, TypeError, ValueError):
        # It will never be written, so its request is a difference.
        return None


def _compared(left: str, right: str) -> str:
    """Return the query for the requests on both sides by time, and the groups that differ."""
    return f"""
        SELECT place, sum(one), sum(two), count(*) FILTER (WHERE differs) FROM (
            SELECT place,
                coalesce(sum(requests) FILTER (WHERE side = 1), 0) AS one,
                coalesce(sum(requests) FILTER (WHERE side = -1), 0) AS two,
                sum(side * requests) <> 0 OR sum(side * tokens) <> 0 OR sum(side * nano) <> 0
                    AS differs
            FROM (
                SELECT 1 AS side, * FROM ({left}) AS one ({_COLUMNS})
                UNION ALL SELECT -1, * FROM ({right}) AS two ({_COLUMNS})
            ) AS sides GROUP BY place, {_GROUP}
        ) AS groups GROUP BY place"""  # noqa: S608 - constants


def _query(statement: str, **values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def _finding(name: str, rows: Iterable[_Row], meaning: str) -> Finding:
    rows = sorted(rows, key=str)
    # Sums of sums are decimals in Postgres.
    left, right = int(sum(row[1] for row in rows)), int(sum(row[2] for row in rows))
    places = [str(row[0]) for row in rows if row[3]]
    return Finding(name, left, right, int(sum(row[3] for row in rows)), places, meaning)
