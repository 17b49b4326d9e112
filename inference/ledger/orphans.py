"""Records of requests that their web process did not settle: it died, or left them.

Running it twice, or beside the web process, does no harm: a run has one record.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import django.db
import msgspec
from redis import Redis

from inference.ledger.admission import Admission, Last, decode_admission, entry_of
from inference.messages import TERMINAL, frame_for
from inference.queue import keys
from metrics.ledger import store
from metrics.ledger.entry import Entry, decode_entry
from metrics.prometheus.counters import deltas_of
from metrics.recorder import write

logger = logging.getLogger(__name__)

BATCH: Final = 500
# A request is younger while its web process puts it into the queue.
YOUNGEST_SECONDS: Final = 10.0


def settle_orphans(client: Redis, longest_seconds: float, *, is_free: bool = True) -> None:
    """Move ended requests without a web process from "open" to "unwritten".

    Args:
        client: of Redis.
        longest_seconds: longer than any request lasts; then it is settled even if its web process
            lives.
        is_free: whether answers from caches cost nothing.
    """
    seconds, microseconds = client.time()
    now = store.moment_of(seconds * 1_000_000 + microseconds)
    left: Any = client.smembers(store.LEFT)
    alive: dict[bytes, bool] = {}
    for run_id, value in client.hscan_iter(store.OPEN):
        moment, process, facts = value.split(b" ", 2)
        started_at = store.moment_of(moment)
        age_seconds = (now - started_at).total_seconds()
        if process not in alive:
            alive[process] = bool(client.exists(store.process_key(process.decode())))
        is_left = run_id in left or not alive[process] or age_seconds > longest_seconds
        if not is_left or age_seconds < YOUNGEST_SECONDS:
            continue
        try:
            entry = _ended(client, decode_admission(facts), started_at, is_free=is_free)
        except msgspec.DecodeError as error:
            logger.error("the facts of %s cannot be read: %s", run_id.decode(), error)
            continue
        if entry is None:
            continue
        logger.info("the request %s is settled by its last frames", entry.run_id)
        pipeline = client.pipeline()
        pipeline.hset(store.UNWRITTEN, entry.run_id, entry.encode())
        pipeline.hdel(store.OPEN, entry.run_id)
        pipeline.srem(store.LEFT, entry.run_id)
        pipeline.execute()


def write_unwritten(client: Redis) -> None:
    """Write the records that Redis keeps for Postgres."""
    batch: list[Entry] = []
    for run_id, value in client.hscan_iter(store.UNWRITTEN, count=BATCH):
        try:
            batch.append(decode_entry(value))
        except (msgspec.DecodeError, TypeError, ValueError) as error:
            logger.error("the record of %s cannot be read: %s", run_id.decode(), error)
        if len(batch) >= BATCH:
            _write(client, batch)
            batch = []
    if batch:
        _write(client, batch)


def _write(client: Redis, batch: list[Entry]) -> None:
    try:
        inserted = write(batch)
    except (django.db.DataError, django.db.IntegrityError) as error:
        if len(batch) == 1:
            logger.error("the record of %s cannot be written: %s", batch[0].run_id, error)
            return
        for entry in batch:
            _write(client, [entry])
        return
    pipeline = client.pipeline()
    pipeline.hdel(store.UNWRITTEN, *(entry.run_id for entry in batch))
    for name, amount in deltas_of(inserted).items():
        pipeline.hincrby(store.COUNTERS, name, amount)
    pipeline.execute()


def _ended(
    client: Redis, admission: Admission, started_at: datetime, *, is_free: bool
) -> Entry | None:
    """The record of a request; None while one of its streams goes on."""
    frames: list[Last] = []
    tiers: set[str] = set()
    for item_id in admission.item_ids:
        entries: Any = client.xrevrange(keys.stream(item_id), count=1)
        source: Any = client.get(keys.source(item_id))
        # A reader that has left a shared generation has a last frame of its own.
        stream = source.split(b" ")[0].decode() if source and not entries else item_id
        # In this order: the item goes when its last frame is there.
        waits = client.exists(keys.item(stream))
        entries = client.xrevrange(keys.stream(stream), count=1)
        fields = entries[0][1] if entries else {}
        frame = frame_for(item_id, fields) if entries else None
        is_own = fields.get(b"o", item_id.encode()) == item_id.encode()
        tiers.add("" if is_own else "flight" if source else "exact")
        if isinstance(frame, TERMINAL):
            frames.append(frame)
        elif waits:
            return None
        else:
            frames.append(None)
    tier = tiers.pop() if len(tiers) == 1 else ""
    now = datetime.now(UTC)
    return entry_of(admission, started_at, now, frames, tier=tier, is_free=is_free and bool(tier))
