"""Counts of refused requests, from Redis into rows."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection
from redis import Redis

from metrics.ledger import store

# Until then web processes may still add to a slot's count.
_KEPT_SECONDS: Final = 86_400
# A Redis that was emptied begins again at 0. Rows that stay the same are not written again.
_UPSERT: Final = """
    INSERT INTO metrics_refusedslot AS kept (slot, code, requests)
    SELECT * FROM unnest(%s::timestamptz[], %s::varchar[], %s::bigint[])
    ON CONFLICT (slot, code) DO UPDATE SET requests = excluded.requests
    WHERE kept.requests < excluded.requests
"""


def copy_refusals(client: Redis) -> None:
    """Bring the rows up to the counts in Redis; counts of earlier days leave Redis."""
    counts: Any = client.hgetall(store.REFUSED)
    if not counts:
        return
    rows = [(*name.decode().split("|", 1), int(count)) for name, count in counts.items()]
    slots = [datetime.fromtimestamp(int(slot), UTC) for slot, _, _ in rows]
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT, [slots, [row[1] for row in rows], [row[2] for row in rows]])
    oldest = time.time() - _KEPT_SECONDS
    past = [name for name, (slot, _, _) in zip(counts, rows, strict=True) if int(slot) < oldest]
    if past:
        client.hdel(store.REFUSED, *past)
