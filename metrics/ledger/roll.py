"""Totals by slot and day, computed again from the records wherever a mark asks for it.

Nothing is ever added to a total. A batch of records commits its marks with it, and a roll deletes
only the marks that it has read, so records that come meanwhile are counted by the next roll.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, TypeVar

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from metrics.ledger.buckets import bucket_sql, merged_sql
from metrics.ledger.slots import SLOT, SLOT_OF_RECORD, slot_of
from metrics.models import RollMark

DIMENSIONS: Final = (
    *("version_key", "team_id", "user_id", "key_id", "preset", "mode", "kind", "tier"),
)
# The columns of a total, and how records give them.
SUMS: Final = {
    "requests": "count(*)",
    "finished": "count(*) FILTER (WHERE outcome = 'finished')",
    "failed": "count(*) FILTER (WHERE outcome IN ('failed', 'lost'))",
    "cancelled": "count(*) FILTER (WHERE outcome = 'cancelled')",
    "fallbacks": "count(*) FILTER (WHERE fallback)",
    "prompt_tokens": "sum(prompt_tokens)",
    "cached_tokens": "sum(cached_tokens)",
    "completion_tokens": "sum(completion_tokens)",
    "computed_prompt_tokens": "sum(computed_prompt_tokens)",
    "computed_completion_tokens": "sum(computed_completion_tokens)",
    "finished_us": "coalesce(sum(total_us) FILTER (WHERE outcome = 'finished'), 0)",
    "device_us": "sum(device_us)",
    "cost_nano": "sum(cost_nano)",
}
Point = TypeVar("Point", date, datetime)
# Unique in this project.
_LOCK: Final = 0x726F6C6C
_DIMENSIONS: Final = ", ".join(DIMENSIONS)
_COLUMNS: Final = ", ".join(SUMS)
_ADDED: Final = ", ".join(f"sum({name}) AS {name}" for name in (*SUMS, "correction_nano"))

# Records of a dropped month are gone: then the old sums stay, and only corrections are summed anew.
_ROLL_USAGE: Final = f"""
    WITH counted AS (
        SELECT {SLOT_OF_RECORD} AS slot, {_DIMENSIONS},
            {", ".join(f"{expression} AS {name}" for name, expression in SUMS.items())}
        FROM metrics_requestrecord WHERE started_at >= %(first)s AND started_at < %(end)s
        GROUP BY 1, {_DIMENSIONS}
    ), old AS (
        DELETE FROM metrics_usageslot WHERE slot >= %(first)s AND slot < %(end)s RETURNING *
    ), parts AS (
        SELECT *, 0 AS correction_nano FROM counted
        UNION ALL
        SELECT slot, {_DIMENSIONS}, {_COLUMNS}, 0 FROM old
        WHERE requests > 0 AND NOT EXISTS (SELECT FROM counted WHERE counted.slot = old.slot)
        UNION ALL
        SELECT slot, {_DIMENSIONS}, {", ".join("0" for _ in SUMS)}, delta_nano
        FROM metrics_correction WHERE slot >= %(first)s AND slot < %(end)s
    )
    INSERT INTO metrics_usageslot (slot, {_DIMENSIONS}, {_COLUMNS}, correction_nano)
    SELECT slot, {_DIMENSIONS}, {_ADDED}
    FROM parts GROUP BY slot, {_DIMENSIONS}
"""  # noqa: S608 - constants
# The times of which there are histograms, in microseconds; ``itl`` is the time between two tokens.
_MEASURES: Final = {
    "ttft": "ttft_us",
    "itl": "decode_us::float8 / nullif(greatest(completion_tokens - 1, 0), 0)",
    "queue": "queue_us",
    "total": "total_us",
}
# One scan per measure is faster than one scan that makes four rows of each record.
_COUNTED_TIMES: Final = " UNION ALL ".join(
    f"""
        SELECT {SLOT_OF_RECORD} AS slot, version_key, '{measure}' AS measure,
            {bucket_sql(time)} AS bucket, count(*) AS requests
        FROM metrics_requestrecord
        WHERE started_at >= %(first)s AND started_at < %(end)s
            AND outcome = 'finished' AND tier = '' AND {time} IS NOT NULL
        GROUP BY 1, 2, 4
    """  # noqa: S608 - constants
    for measure, time in _MEASURES.items()
)
_ROLL_SHAPES: Final = f"""
    WITH counted AS ({_COUNTED_TIMES}
    ), old AS (
        DELETE FROM metrics_shapeslot WHERE slot IN (SELECT slot FROM counted)
    )
    INSERT INTO metrics_shapeslot (slot, version_key, measure, buckets, counts)
    SELECT slot, version_key, measure, array_agg(bucket ORDER BY bucket),
        array_agg(requests ORDER BY bucket)
    FROM counted GROUP BY slot, version_key, measure
"""  # noqa: S608 - constants
DAY_OF_SLOT: Final = "(slot AT TIME ZONE %(zone)s)::date"
# A zone's day begins at most 14 hours from that of UTC; the first two conditions are for the index.
_OF_DAYS: Final = f"""
    slot >= %(first)s::date - 1 AND slot < %(last)s::date + 2
    AND {DAY_OF_SLOT} BETWEEN %(first)s AND %(last)s
"""
# A day whose slots have been deleted stays, though a late correction may have made a slot in it.
_ROLL_USAGE_DAYS: Final = f"""
    WITH counted AS (
        SELECT {DAY_OF_SLOT} AS day, {_DIMENSIONS}, {_ADDED}
        FROM metrics_usageslot WHERE {_OF_DAYS} GROUP BY 1, {_DIMENSIONS}
    ), known AS (
        SELECT day FROM counted GROUP BY day HAVING sum(requests) > 0
    ), old AS (
        DELETE FROM metrics_usageday WHERE day IN (SELECT day FROM known)
    )
    INSERT INTO metrics_usageday (day, {_DIMENSIONS}, {_COLUMNS}, correction_nano)
    SELECT * FROM counted WHERE day IN (SELECT day FROM known)
"""  # noqa: S608 - constants
_ROLL_SHAPE_DAYS: Final = f"""
    WITH counted AS ({
    merged_sql(
        "metrics_shapeslot",
        _OF_DAYS,
        {"day": DAY_OF_SLOT, "version_key": "version_key", "measure": "measure"},
    )
}), old AS (
        DELETE FROM metrics_shapeday WHERE day IN (SELECT day FROM counted)
    )
    INSERT INTO metrics_shapeday (day, version_key, measure, buckets, counts) SELECT * FROM counted
"""  # noqa: S608 - constants


def roll() -> int:
    """Compute the totals of all marked slots and their days; return the number of slots."""
    zone = settings.USAGE_TIME_ZONE
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        # Postgres expects a group for each record, and would sort all records on disk.
        cursor.execute("SET LOCAL enable_sort = off")
        # Each statement sees all that was committed before it: the records of these marks.
        marks = dict(RollMark.objects.values_list("id", "slot"))
        slots = sorted({slot_of(slot) for slot in marks.values()})
        for first_slot, last_slot in _spans(slots, SLOT):
            span = {"first": first_slot, "end": last_slot + SLOT}
            cursor.execute(_ROLL_USAGE, span)
            cursor.execute(_ROLL_SHAPES, span)
        for first, last in _spans(_touched_days(cursor, slots, zone), timedelta(days=1)):
            days: dict[str, Any] = {"first": first, "last": last, "zone": zone}
            cursor.execute(_ROLL_USAGE_DAYS, days)
            cursor.execute(_ROLL_SHAPE_DAYS, days)
        cursor.execute("DELETE FROM metrics_rollmark WHERE id = ANY(%s)", [list(marks)])
    return len(slots)


def as_of() -> datetime:
    """Return the moment before which the totals have every record that is written.

    It is the beginning of the oldest slot with a mark, and now when there is none.
    """
    oldest = RollMark.objects.order_by("slot").values_list("slot", flat=True).first()
    return oldest or datetime.now(UTC)


def _spans(values: Iterable[Point], step: timedelta) -> list[tuple[Point, Point]]:
    """Join ascending values that follow each other to spans, given by the first and the last."""
    spans: list[tuple[Point, Point]] = []
    for value in values:
        if spans and value == spans[-1][1] + step:
            spans[-1] = (spans[-1][0], value)
        else:
            spans.append((value, value))
    return spans


def _touched_days(cursor: CursorWrapper, slots: list[datetime], zone: str) -> list[date]:
    """Return the days of the slots; all days when the totals are of another time zone."""
    # The comment of the table says which time zone its days have.
    cursor.execute("SELECT obj_description('metrics_usageday'::regclass, 'pg_class')")
    ((old_zone,),) = cursor.fetchall()
    marked = "unnest(%(slots)s::timestamptz[]) AS marked(slot)"
    if old_zone != zone:
        marked = "metrics_usageslot"
        for table in ("metrics_usageday", "metrics_shapeday"):
            cursor.execute(
                f"DELETE FROM {table} WHERE day >= (SELECT min({DAY_OF_SLOT}) FROM {marked})",  # noqa: S608
                {"zone": old_zone or zone},
            )
        cursor.execute("COMMENT ON TABLE metrics_usageday IS %s", [zone])
    values: dict[str, Any] = {"zone": zone, "slots": slots}
    cursor.execute(f"SELECT DISTINCT {DAY_OF_SLOT} FROM {marked} ORDER BY 1", values)  # noqa: S608
    return [day for (day,) in cursor.fetchall()]
