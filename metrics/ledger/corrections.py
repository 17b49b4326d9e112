"""Corrections of costs when a price was wrong. Records keep their costs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from metrics.ledger.cost import COST_SQL, Rates
from metrics.ledger.partitions import months
from metrics.ledger.roll import DIMENSIONS
from metrics.ledger.slots import SLOT, SLOT_OF_RECORD, slot_of
from metrics.models import Correction, RequestRecord, RollMark

_RECORDS, _CORRECTIONS, _MARKS = (
    table._meta.db_table for table in (RequestRecord, Correction, RollMark)
)
_DIMENSIONS: Final = ", ".join(DIMENSIONS)
# Whole slots: a correction does not tell which records of its slot it is for. A slot owes what its
# records cost by the prices, less what they and earlier corrections have. Answers from caches keep
# their cost.
_CORRECT: Final = f"""
    WITH p AS (
        SELECT *, lead(valid_from, 1, 'infinity') OVER (ORDER BY valid_from, price_id)
            AS valid_until
        FROM unnest(%(ids)s::bigint[], %(moments)s::timestamptz[], %(prompt)s::bigint[],
            %(cached)s::bigint[], %(completion)s::bigint[], %(device_hour)s::bigint[])
            AS p (price_id, valid_from, prompt, cached, completion, device_hour)
    ), owed AS (
        SELECT {SLOT_OF_RECORD} AS slot, {_DIMENSIONS}, p.price_id,
            {COST_SQL} - r.cost_nano AS nano
        FROM {_RECORDS} r JOIN p ON r.started_at >= p.valid_from AND r.started_at < p.valid_until
        WHERE r.version_key = %(version_key)s AND r.tier = ''
            AND r.started_at >= %(first)s AND r.started_at < %(end)s
        UNION ALL
        SELECT slot, {_DIMENSIONS}, price_id, -delta_nano
        FROM {_CORRECTIONS}
        WHERE version_key = %(version_key)s AND slot >= %(first)s AND slot < %(end)s
    ), added AS (
        INSERT INTO {_CORRECTIONS}
            (slot, {_DIMENSIONS}, price_id, delta_nano, reason, made_by, made_at)
        SELECT slot, {_DIMENSIONS}, price_id, sum(nano), %(reason)s, %(made_by)s, now()
        FROM owed GROUP BY slot, {_DIMENSIONS}, price_id HAVING sum(nano) <> 0
        RETURNING slot
    )
    INSERT INTO {_MARKS} (slot) SELECT DISTINCT slot FROM added
"""  # noqa: S608 - names of our tables


class Charge(NamedTuple):
    """The rates of a price, in force until the next begins, by time and then by id."""

    price_id: int
    valid_from: datetime
    rates: Rates


def correct(
    version_key: str,
    charges: Sequence[Charge],
    since: datetime,
    until: datetime | None,
    *,
    reason: str,
    made_by: str,
) -> None:
    """Add corrections, so that the requests of a span cost what the prices of their time say.

    A second call adds nothing. Months whose records have been dropped stay as they are.

    Args:
        version_key: of the requests.
        charges: all prices of the version; requests before the first keep their cost.
        since, until: the span of admission, widened to whole slots; until None: without an end.
        reason, made_by: for the rows.
    """
    rates = [charge.rates for charge in charges]
    values: dict[str, Any] = {
        "version_key": version_key,
        "ids": [charge.price_id for charge in charges],
        "moments": [charge.valid_from for charge in charges],
        **{name: [getattr(each, name) for each in rates] for name in Rates._fields},
        "end": slot_of(until) + SLOT if until else datetime.max.replace(tzinfo=UTC),
        "reason": reason,
        "made_by": made_by,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        # A month that is dropped meanwhile would leave corrections without records.
        cursor.execute(f"LOCK TABLE {_RECORDS} IN ACCESS SHARE MODE")
        # Of two at once, the second must see what the first has added.
        cursor.execute(f"LOCK TABLE {_CORRECTIONS} IN SHARE ROW EXCLUSIVE MODE")
        # Before, earlier corrections would be taken back, since there are no records to need them.
        cursor.execute(_CORRECT, values | {"first": max(slot_of(since), months()[0])})
