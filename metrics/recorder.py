"""Writing of records, many at a time."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from django.db import connection, models, transaction

from metrics.ledger.entry import Entry, stored_fields
from metrics.models import DimensionName, RequestRecord, RequestStep, RollMark

_MARKS: Final = f"""
    INSERT INTO "{RollMark._meta.db_table}" (slot)
    SELECT DISTINCT date_bin('15 minutes', moment, 'epoch') FROM unnest(%s::timestamptz[]) AS moment
"""  # noqa: S608 - a constant
_NAME: Final = f"""
    INSERT INTO "{DimensionName._meta.db_table}" (kind, dimension_id, name, valid_from)
    SELECT %(kind)s, %(id)s, %(name)s, %(moment)s WHERE %(name)s IS DISTINCT FROM (
        SELECT name FROM "{DimensionName._meta.db_table}"
        WHERE kind = %(kind)s AND dimension_id = %(id)s ORDER BY valid_from DESC LIMIT 1
    ) ON CONFLICT DO NOTHING
"""  # noqa: S608 - a constant
# The names that this process has seen in the database.
_known_names: dict[tuple[str, int], str] = {}


def write(entries: Sequence[Entry]) -> list[RequestRecord]:
    """Insert records with their steps, marks and names, all or none.

    Returns:
        The records that were not there yet: a second record of a run is ignored.
    """
    names = _new_names(entries)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_insertion(RequestRecord), _columns([each.record for each in entries]))
        inserted = {run_id for (run_id,) in cursor.fetchall()}
        steps = [step for each in entries for step in each.steps]
        if steps:
            cursor.execute(_insertion(RequestStep), _columns(steps))
        cursor.execute(_MARKS, [[each.record.started_at for each in entries]])
        for (kind, number), (name, moment) in names.items():
            cursor.execute(_NAME, {"kind": kind, "id": number, "name": name, "moment": moment})
    _known_names.update({key: name for key, (name, _) in names.items()})
    return [each.record for each in entries if each.run_id in inserted]


def _new_names(entries: Sequence[Entry]) -> dict[tuple[str, int], tuple[str, Any]]:
    return {
        (kind, number): (name, each.record.started_at)
        for each in entries
        for kind, number, name in each.names
        if _known_names.get((kind, number)) != name
    }


def _columns(rows: Sequence[models.Model]) -> list[list[Any]]:
    names = [each.attname for each in stored_fields(type(rows[0]))]
    return [[getattr(row, name) for row in rows] for name in names]


@cache
def _insertion(model: type[models.Model]) -> str:
    # One statement with a list per column: a tenth of the time of the ORM's.
    fields = stored_fields(model)
    columns = ", ".join(f'"{each.column}"' for each in fields)
    # Without the length: a cast to varchar(16) would cut the text, the insertion refuses it.
    types = [str(each.db_type(connection)).partition("(")[0] for each in fields]
    lists = ", ".join(f"%s::{name}[]" for name in types)
    return (
        f'INSERT INTO "{model._meta.db_table}" ({columns}) '  # noqa: S608
        f"SELECT * FROM unnest({lists}) ON CONFLICT DO NOTHING RETURNING run_id"
    )
