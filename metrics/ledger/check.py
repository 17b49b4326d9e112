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
from metrics.ledger.partitions import DEFAULT_PARTITION, months
from metrics.ledger.roll import DAY_OF_SLOT, DIMENSIONS, roll
from metrics.ledger.slots import SLOT_OF_RECORD
from metrics.models import RollMark

# Redis keeps its counts of a day for 40 days.
_KEPT_DAYS: Final = 42
_LOST: Final = "Accepted requests have no record, or records have no accepted request."
_ENGINES: Final = "Engines computed other tokens than the records say."
_STALE: Final = "Totals are not what they are computed from. A RollMark for the time mends them."
_STRAYS: Final = (
    "The month of these records has no partition: no controller ran, or the clock of Redis was "
    "wrong. They count in totals, but are never deleted."
)
_UNROLLED: Final = "Totals should have been computed again and were not."
_MEASURES: Final = ("requests", "tokens", "cost in nano-dollars")
_GROUP: Final = ", ".join(DIMENSIONS)
_SUMS: Final = "requests, prompt_tokens + completion_tokens, cost_nano + correction_nano"
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
_SLOTS_BY_DAY: Final = f"SELECT {DAY_OF_SLOT}, {_GROUP}, {_SUMS} FROM metrics_usageslot"  # noqa: S608
_DAYS: Final = f"""
    SELECT day, {_GROUP}, {_SUMS} FROM metrics_usageday
    WHERE day >= (SELECT min({DAY_OF_SLOT}) FROM metrics_usageslot)"""  # noqa: S608 - constants


@dataclass(frozen=True)
class Finding:
    """Two counts of the same thing, which agree when ``difference`` is 0.

    The difference is the sum of those of all groups: they do not cancel each other.

    Attributes:
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
    marks = list(RollMark.objects.values_list("id", flat=True))
    roll()
    found = _against_redis(client)
    with transaction.atomic():
        _query("SET LOCAL enable_sort = off")
        for name, left, right in (
            ("records = quarters of an hour", _RECORDS, _SLOTS),
            ("quarters of an hour = days", _SLOTS_BY_DAY, _DAYS),
        ):
            rows = _query(
                _difference(left, right), zone=settings.USAGE_TIME_ZONE, oldest=months()[0]
            )
            found += [
                _finding(f"{measure}: {name}", [(r[0], *r[i : i + 3]) for r in rows], _STALE)
                for measure, i in zip(_MEASURES, (1, 4, 7), strict=True)
            ]
        strays = _query(f"SELECT count(*) FROM {DEFAULT_PARTITION}")[0][0]  # noqa: S608
    left_over = RollMark.objects.filter(id__in=marks).count()
    return [
        *found,
        _finding("records without a partition of their month", [("", strays, 0, strays)], _STRAYS),
        _finding("marks that were not rolled", [("", left_over, 0, left_over)], _UNROLLED),
    ]


def _against_redis(client: redis.Redis) -> list[Finding]:
    """Compare the records with what Redis has counted since its counts of a day began."""
    now: Any = client.time()
    days = [now[0] // 86_400 - age for age in range(_KEPT_DAYS)]
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
        if not count.get(b"since") or begin < oldest:
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


def _difference(left: str, right: str) -> str:
    """Return the query for the sums of both sides by time, and those of the groups' differences."""
    columns = f"place, {_GROUP}, a, b, c"
    totals = ", ".join(f"sum(l{x}), sum(r{x}), sum(abs(l{x} - r{x}))" for x in "abc")
    sides = ", ".join(
        f"coalesce(sum({x}) FILTER (WHERE {side}), 0) AS {name}{x}"
        for x in "abc"
        for side, name in (("is_left", "l"), ("NOT is_left", "r"))
    )
    return f"""
        SELECT place, {totals} FROM (
            SELECT place, {sides} FROM (
                SELECT true AS is_left, * FROM ({left}) AS one ({columns})
                UNION ALL SELECT false, * FROM ({right}) AS two ({columns})
            ) AS both_sides GROUP BY place, {_GROUP}
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
