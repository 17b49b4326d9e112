"""Records of requests that their web process did not settle: it died, or left them."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import django.db
import msgspec
from redis import Redis

from inference.ledger.admission import Admission, Ending, decode_admission, entry_of
from inference.messages import TERMINAL, Failed, Finished, decode_frame
from inference.queue import keys
from metrics.ledger import store
from metrics.ledger.entry import Entry, decode_entry
from metrics.prometheus.counters import deltas_of
from metrics.recorder import write

logger = logging.getLogger(__name__)

BATCH: Final = 500
# A request is younger while its web process puts it into the queue.
YOUNGEST_SECONDS: Final = 10.0


class Orphans:
    """Settles requests from the last frames of their streams, and writes records that wait.

    Running it twice, or beside the web process, does no harm: a run has one record.

    Args:
        client: of Redis.
        longest_seconds: longer than any request lasts; then it is settled even if its web process
            lives.
    """

    def __init__(self, client: Redis, longest_seconds: float) -> None:
        self._redis = client
        self._longest_seconds = longest_seconds

    def settle(self) -> None:
        """Move ended requests without a web process from "open" to "unwritten"."""
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1e6
        left: Any = self._redis.smembers(store.LEFT)
        alive: dict[bytes, bool] = {}
        for run_id, value in self._redis.hscan_iter(store.OPEN):
            moment, process, facts = value.split(b" ", 2)
            age_seconds = now - int(moment) / 1e6
            if process not in alive:
                alive[process] = bool(self._redis.exists(store.process_key(process.decode())))
            is_left = run_id in left or not alive[process] or age_seconds > self._longest_seconds
            if not is_left or age_seconds < YOUNGEST_SECONDS:
                continue
            entry = self._ended(decode_admission(facts), store.moment_of(moment))
            if entry is None:
                continue
            logger.info("the request %s is settled by its last frames", entry.run_id)
            pipeline = self._redis.pipeline()
            pipeline.hset(store.UNWRITTEN, entry.run_id, entry.encode())
            pipeline.hdel(store.OPEN, entry.run_id)
            pipeline.srem(store.LEFT, entry.run_id)
            pipeline.execute()

    def write(self) -> None:
        """Write the records that Redis keeps for Postgres."""
        batch: list[Entry] = []
        for run_id, value in self._redis.hscan_iter(store.UNWRITTEN, count=BATCH):
            try:
                batch.append(decode_entry(value))
            except (msgspec.DecodeError, TypeError, ValueError) as error:
                logger.error("the record of %s cannot be read: %s", run_id.decode(), error)
            if len(batch) >= BATCH:
                self._write(batch)
                batch = []
        if batch:
            self._write(batch)

    def _write(self, batch: list[Entry]) -> None:
        try:
            inserted = write(batch)
        except (django.db.DataError, django.db.IntegrityError) as error:
            if len(batch) == 1:
                logger.error("the record of %s cannot be written: %s", batch[0].run_id, error)
                return
            for entry in batch:
                self._write([entry])
            return
        pipeline = self._redis.pipeline()
        pipeline.hdel(store.UNWRITTEN, *(entry.run_id for entry in batch))
        for name, amount in deltas_of(inserted).items():
            pipeline.hincrby(store.COUNTERS, name, amount)
        pipeline.execute()

    def _ended(self, admission: Admission, started_at: datetime) -> Entry | None:
        """The record of a request; None while one of its streams goes on."""
        frames: list[Finished | Failed | None] = []
        for item_id in admission.item_ids:
            # In this order: the item goes when its last frame is there.
            waits = self._redis.exists(keys.item(item_id))
            entries: Any = self._redis.xrevrange(keys.stream(item_id), count=1)
            frame = decode_frame(entries[0][1][b"f"]) if entries else None
            if isinstance(frame, TERMINAL):
                frames.append(frame)
            elif waits:
                return None
            else:
                frames.append(None)
        return entry_of(admission, started_at, Ending(frames, datetime.now(UTC)))
