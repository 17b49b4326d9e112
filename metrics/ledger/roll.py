"""Totals by slot, hour and day, computed again from the records wherever a mark asks for it.

Nothing is ever added to a total. A batch of records commits its marks with it, and a roll deletes
only the marks that it has read, so records that come meanwhile are counted by the next roll.
"""

from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from metrics.ledger.buckets import bucket_sql, merged_sql
from metrics.ledger.slots import SLOT, slot_of
from metrics.models import RollMark, ShapeDay, UsageDay, UsageSlot

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
# Unique in this project.
_LOCK: Final = 0x726F6C6C
_DIMENSIONS: Final = ", ".join(DIMENSIONS)
_COLUMNS: Final = ", ".join(SUMS)
_SHAPE: Final = ("version_key", "measure")
_ADDED: Final = ", ".join(f"sum({name}) AS {name}" for name in (*SUMS, "correction_nano"))

# Records of a dropped month are gone: then the old sums stay, and only corrections are summed anew.
_ROLL_USAGE: Final = f"""
    WITH counted AS (
        SELECT {_DIMENSIONS},
            {", ".join(f"{expression} AS {name}" for name, expression in SUMS.items())}
        FROM metrics_requestrecord WHERE started_at >= %(slot)s AND started_at < %(end)s
        GROUP BY {_DIMENSIONS}
    ), old AS (
        DELETE FROM metrics_usageslot WHERE slot = %(slot)s RETURNING *
    ), parts AS (
        SELECT *, 0 AS correction_nano FROM counted
        UNION ALL
        SELECT {_DIMENSIONS}, {_COLUMNS}, 0 FROM old
        WHERE requests > 0 AND NOT EXISTS (SELECT FROM counted)
        UNION ALL
        SELECT {_DIMENSIONS}, {", ".join("0" for _ in SUMS)}, delta_nano
        FROM metrics_correction WHERE slot = %(slot)s
    )
    INSERT INTO metrics_usageslot (slot, {_DIMENSIONS}, {_COLUMNS}, correction_nano)
    SELECT %(slot)s, {_DIMENSIONS}, {_ADDED} FROM parts GROUP BY {_DIMENSIONS}
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
        SELECT version_key, '{measure}' AS measure, {bucket_sql(time)} AS bucket,
            count(*) AS requests
        FROM metrics_requestrecord
        WHERE started_at >= %(slot)s AND started_at < %(end)s
            AND outcome = 'finished' AND tier = '' AND {time} IS NOT NULL
        GROUP BY 1, 3
    """  # noqa: S608 - constants
    for measure, time in _MEASURES.items()
)
_ROLL_SHAPES: Final = f"""
    WITH counted AS ({_COUNTED_TIMES}
    ), old AS (
        DELETE FROM metrics_shapeslot WHERE slot = %(slot)s AND EXISTS (SELECT FROM counted)
    )
    INSERT INTO metrics_shapeslot (slot, version_key, measure, buckets, counts)
    SELECT %(slot)s, version_key, measure, array_agg(bucket ORDER BY bucket),
        array_agg(requests ORDER BY bucket)
    FROM counted GROUP BY version_key, measure
"""  # noqa: S608 - constants
_OF_SPAN: Final = "slot >= %(begin)s AND slot < %(end)s"
# A day whose slots have been deleted stays, though a late correction may have made a slot in it.
_ROLL_USAGE_DAY: Final = f"""
    WITH counted AS (
        SELECT {_DIMENSIONS}, {_ADDED}
        FROM metrics_usageslot WHERE {_OF_SPAN} GROUP BY {_DIMENSIONS}
    ), known AS (
        SELECT FROM counted HAVING sum(requests) > 0
    ), old AS (
        DELETE FROM metrics_usageday WHERE day = %(place)s AND EXISTS (SELECT FROM known)
    )
    INSERT INTO metrics_usageday (day, {_DIMENSIONS}, {_COLUMNS}, correction_nano)
    SELECT %(place)s, * FROM counted WHERE EXISTS (SELECT FROM known)
"""  # noqa: S608 - constants


def _merged_slots(table: str, column: str) -> str:
    """Return the statement that adds up the histograms of a span's slots for a row of a table."""
    merged = merged_sql("metrics_shapeslot", _OF_SPAN, dict(zip(_SHAPE, _SHAPE, strict=True)))
    return f"""
        WITH counted AS ({merged}), old AS (
            DELETE FROM {table} WHERE {column} = %(place)s AND EXISTS (SELECT FROM counted)
        )
        INSERT INTO {table} ({column}, {", ".join(_SHAPE)}, buckets, counts)
        SELECT %(place)s, * FROM counted
    """  # noqa: S608 - constants


_ROLL_SHAPE_HOUR: Final = _merged_slots("metrics_shapehour", "hour")
_ROLL_SHAPE_DAY: Final = _merged_slots("metrics_shapeday", "day")


def roll() -> int:
    """Compute the totals of all marked slots and their days; return the number of slots."""
    zone = ZoneInfo(settings.USAGE_TIME_ZONE)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        # Postgres expects a group for each record, and would sort all records on disk.
        cursor.execute("SET LOCAL enable_sort = off")
        # Each statement sees all that was committed before it: the records of these marks.
        marks = dict(RollMark.objects.values_list("id", "slot"))
        slots = {slot_of(slot) for slot in marks.values()}
        for slot in slots:
            span = {"slot": slot, "end": slot + SLOT}
            cursor.execute(_ROLL_USAGE, span)
            cursor.execute(_ROLL_SHAPES, span)
        for hour in {slot.replace(minute=0) for slot in slots}:
            of_hour = {"place": hour, "begin": hour, "end": hour + timedelta(hours=1)}
            cursor.execute(_ROLL_SHAPE_HOUR, of_hour)
        for day in {slot.astimezone(zone).date() for slot in _slots_of_days(cursor, slots, zone)}:
            begin, end = (
                datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1))
            )
            of_day = {"place": day, "begin": begin, "end": end}
            cursor.execute(_ROLL_USAGE_DAY, of_day)
            cursor.execute(_ROLL_SHAPE_DAY, of_day)
        cursor.execute("DELETE FROM metrics_rollmark WHERE id = ANY(%s)", [list(marks)])
    return len(slots)


def as_of() -> datetime:
    """Return the moment before which the totals have every record that is written.

    It is the beginning of the oldest slot with a mark, and now when there is none.
    """
    oldest = RollMark.objects.order_by("slot").values_list("slot", flat=True).first()
    return oldest or datetime.now(UTC)


def _slots_of_days(cursor: CursorWrapper, slots: set[datetime], zone: ZoneInfo) -> set[datetime]:
    """Return the slots; all slots when the days in the tables are of another time zone."""
    # The comment of the table says which time zone its days have.
    cursor.execute("SELECT obj_description('metrics_usageday'::regclass, 'pg_class')")
    ((old_zone,),) = cursor.fetchall()
    if old_zone == zone.key:
        return slots
    slots = set(UsageSlot.objects.values_list("slot", flat=True).distinct())
    if old_zone and slots:
        first_day = min(slots).astimezone(ZoneInfo(old_zone)).date()
        for table in (UsageDay, ShapeDay):
            table.objects.filter(day__gte=first_day).delete()
    cursor.execute("COMMENT ON TABLE metrics_usageday IS %s", [zone.key])
    return slots
