"""The web process's side of the ledger: accept requests, and write their records in batches."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from datetime import datetime
from typing import Any, Final

import django.db
import redis.asyncio
from channels.db import database_sync_to_async
from redis.exceptions import RedisError

from metrics.ledger import store
from metrics.ledger.entry import Entry
from metrics.prometheus.counters import deltas_of, refusal_field
from metrics.recorder import write

logger = logging.getLogger(__name__)

BATCH: Final = 500
FLUSH_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0
# The controller settles the requests of a web process that has been silent for so long.
LEASE_SECONDS: Final = 20
RENEW_SECONDS: Final = 5.0
# Postgres is away or closes. Other errors are about the rows.
_AWAY: Final = (django.db.OperationalError, django.db.InterfaceError)


class Ledger:
    """Accepts requests, and sees to it that each gets its record.

    An accepted request is in ``brigade:open`` until its record is committed. When Postgres does not
    take the record, Redis gets all of it; so at any time two of web process, Redis and Postgres
    know it. What a web process leaves behind, the controller settles.
    """

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._redis = client
        self.process = secrets.token_hex(8)
        self._accept: Any = client.register_script(store.script("accept"))
        self._withdraw: Any = client.register_script(store.script("withdraw"))
        self._open: set[str] = set()
        self._waiting: list[Entry] = []
        self._withdrawn: set[str] = set()
        self._left: list[str] = []
        self._written: list[str] = []
        self._saved: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._counters: Counter[str] = Counter()
        self._work = asyncio.Event()
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None
        self._renew_at = 0.0

    async def accept(self, run_id: str, facts: bytes) -> datetime:
        """Note an accepted request with the facts its record needs.

        Returns:
            The moment of admission by the clock of Redis.
        """
        self._open.add(run_id)
        self._start()
        try:
            moment = await self._accept(
                keys=[store.OPEN], args=[run_id, self.process, LEASE_SECONDS, facts]
            )
        except BaseException:
            # Redis may have noted it all the same: the reply was lost, or the client has left.
            self.withdraw(run_id)
            raise
        return store.moment_of(moment)

    def withdraw(self, run_id: str) -> None:
        """Take back an acceptance: the request was refused."""
        self._withdrawn.add(run_id)
        self._work.set()

    def leave(self, run_id: str) -> None:
        """Let the controller settle a request, once its streams have ended."""
        self._left.append(run_id)
        self._work.set()

    def settle(self, entry: Entry) -> None:
        """Write a record soon."""
        self._waiting.append(entry)
        self._work.set()

    def refuse(self, code: str) -> None:
        """Count a request that was refused with an error code."""
        slot = int(time.time()) // 900 * 900
        self._refused[f"{slot}|{code}"] += 1
        self._counters[refusal_field(code)] += 1
        self._start()
        self._work.set()

    async def close(self) -> None:
        """Write what waits, as far as Postgres or Redis takes it."""
        self._is_closing = True
        self._work.set()
        if self._task is not None:
            await self._task

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        task = asyncio.current_task()
        # redis-py turns a cancellation while it connects into an error of its own.
        while not self._is_closing and task is not None and not task.cancelling():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_SECONDS):
                    await self._work.wait()
            if not self._is_closing:
                await asyncio.sleep(FLUSH_SECONDS)
            self._work.clear()
            if not await self._flush() and not self._is_closing:
                await asyncio.sleep(RETRY_SECONDS)
                self._work.set()
        await self._flush()

    async def _flush(self) -> bool:
        """Write all that waits; False when a part of it must wait longer."""
        try:
            return await self._try_to_flush()
        except Exception:
            # This task must go on: nothing else writes the records of this process while it lives.
            logger.exception("a part of the ledger failed, will retry")
            return False

    async def _try_to_flush(self) -> bool:
        is_done = True
        while self._waiting and is_done:
            is_done = await self._write(self._waiting[:BATCH])
        try:
            await self._tell_redis()
        except RedisError as error:
            logger.warning("Redis does not take notes of the ledger, will retry: %s", error)
            return False
        return is_done

    async def _write(self, batch: list[Entry]) -> bool:
        """Insert a batch; entries that Postgres does not take go to Redis too."""
        try:
            inserted = await database_sync_to_async(write, thread_sensitive=False)(batch)
        except _AWAY as error:
            unsaved = [each for each in self._waiting if each.run_id not in self._saved]
            logger.warning("%d records wait for Postgres: %s", len(self._waiting), error)
            if unsaved and await self._save(unsaved):
                self._saved |= {each.run_id for each in unsaved}
            return False
        except django.db.Error as error:
            if len(batch) > 1:
                return all([await self._write([entry]) for entry in batch])
            logger.error("the record of %s cannot be written: %s", batch[0].run_id, error)
            if not await self._save(batch):
                return False
        else:
            self._written += [entry.run_id for entry in batch]
            self._counters.update(deltas_of(inserted))
        done = {each.run_id for each in batch}
        self._waiting = [each for each in self._waiting if each.run_id not in done]
        self._open -= done
        self._saved -= done
        return True

    async def _save(self, batch: list[Entry]) -> bool:
        pipeline = self._redis.pipeline()
        pipeline.hset(store.UNWRITTEN, mapping={each.run_id: each.encode() for each in batch})
        pipeline.hdel(store.OPEN, *(entry.run_id for entry in batch))
        try:
            await pipeline.execute()
        except RedisError as error:
            logger.warning("%d records are in memory alone: %s", len(batch), error)
            return False
        return True

    async def _tell_redis(self) -> None:
        for run_id in list(self._withdrawn):
            await self._withdraw(keys=[store.OPEN], args=[run_id])
            self._withdrawn.discard(run_id)
            self._open.discard(run_id)
        pipeline = self._redis.pipeline()
        written, refused, counters = self._written, self._refused, self._counters
        left = self._left
        self._written, self._refused, self._counters, self._left = [], Counter(), Counter(), []
        if written:
            pipeline.hdel(store.OPEN, *written)
            pipeline.hdel(store.UNWRITTEN, *written)
        if left:
            pipeline.sadd(store.LEFT, *left)
        for name, count in refused.items():
            pipeline.hincrby(store.REFUSED, name, count)
        for name, amount in counters.items():
            pipeline.hincrby(store.COUNTERS, name, amount)
        if self._open and time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_SECONDS
            pipeline.set(store.process_key(self.process), 1, ex=LEASE_SECONDS)
        try:
            if pipeline.command_stack:
                await pipeline.execute()
        except RedisError:
            self._written += written
            self._refused += refused
            self._counters += counters
            self._left += left
            self._renew_at = 0.0
            raise
        self._open -= set(left)
