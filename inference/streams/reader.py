"""Follow many token streams of one process over one Redis connection."""

import asyncio
import contextvars
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import redis
from redis.asyncio import Connection, Redis

from inference.errors import InferenceError, InternalError, TemporaryResourceError
from inference.messages import TERMINAL, Frame, as_hit, decode_frame, frame_for
from inference.queue import keys

logger = logging.getLogger(__name__)

BLOCK_SECONDS = 2.0
# A stream that is silent for this long is checked: its item may be lost with Redis.
SILENCE_SECONDS = 4.0
# How long Redis may be away before the followers are told.
OUTAGE_SECONDS = 20.0
RETRY_SECONDS = 0.2

StreamEntry = tuple[str, int, Frame]
"""Generation id, number and frame."""
StreamEnd = tuple[int, Frame]


@dataclass(eq=False)
class _Subscription:
    generation_id: str
    after: int
    entries: "asyncio.Queue[StreamEntry | InferenceError]"
    heard_at: float
    reader_id: str
    may_be_missing: bool = False


class Followed:
    """The streams one follower reads, merged in the order in which frames arrive."""

    def __init__(self) -> None:
        self.entries: asyncio.Queue[StreamEntry | InferenceError] = asyncio.Queue()

    async def next(self) -> StreamEntry:
        """Wait for the next entry. Raises the ``InferenceError`` that ended a stream."""
        entry = await self.entries.get()
        if isinstance(entry, InferenceError):
            raise entry
        return entry


class StreamReader:
    """Reads every followed stream with one blocking ``XREAD`` at a time.

    A new follower must not wait until the running read ends, so each reader also reads a stream
    of its own, the doorbell, which it writes to when the set of followed streams changes. The reads
    use one connection, without the cost of the client's pool, retries and telemetry.
    """

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._doorbell = f"{keys.PREFIX}doorbell:{uuid.uuid4().hex}"
        self._doorbell_id = "0-0"
        self._subscriptions: dict[str, list[_Subscription]] = {}
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._outage_began_at: float | None = None

    @asynccontextmanager
    async def follow(
        self, positions: Mapping[str, int], readers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Followed]:
        """Follow streams.

        Args:
            positions: the last frame seen, 0 for none, by generation id.
            readers: by id of a generation that is shared, the id by which its reader is known. The
                stream of that id is followed too: it ends the reader's part early.
        """
        followed, readers = Followed(), readers or {}
        if not positions:
            yield followed
            return
        now = time.monotonic()
        subscriptions = [
            _Subscription(one, after, followed.entries, now, readers.get(one, one))
            for one, after in positions.items()
        ] + [
            _Subscription(own, 0, followed.entries, now, own, may_be_missing=True)
            for own in readers.values()
        ]
        for subscription in subscriptions:
            name = keys.stream(subscription.generation_id)
            self._subscriptions.setdefault(name, []).append(subscription)
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(
                    # Not in the context of the request that happens to need it first.
                    self._read_forever(),
                    name="stream reader",
                    context=contextvars.Context(),
                )
            else:
                await self._ring()
            yield followed
        finally:
            for subscription in subscriptions:
                self._drop(subscription)

    async def last_frames(self, generation_ids: Mapping[str, str]) -> dict[str, StreamEnd]:
        """(number, frame) of the last entry of each stream that has one; keys as in ``follow``.

        ``generation_ids`` maps them to the ids of their readers.
        """
        if not generation_ids:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for generation_id in generation_ids:
            pipeline.xrevrange(keys.stream(generation_id), count=1)
        answers: list[Any] = await pipeline.execute()
        return {
            generation_id: (int(entries[0][0].split(b"-")[0]), frame_for(reader, entries[0][1]))
            for (generation_id, reader), entries in zip(
                generation_ids.items(), answers, strict=True
            )
            if entries
        }

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _ring(self) -> None:
        try:
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(self._doorbell, {b"r": b""}, maxlen=1)
            pipeline.expire(self._doorbell, 3600)
            await pipeline.execute()
        except redis.RedisError as error:
            logger.debug("the reader reads again by itself: %s", error)

    async def _read_forever(self) -> None:
        try:
            task = asyncio.current_task()
            # redis-py may make an error or an answer of a cancellation.
            while self._subscriptions and task is not None and not task.cancelling():
                try:
                    await self._read_once()
                    self._outage_began_at = None
                except redis.RedisError as error:
                    await self._on_outage(error)
        finally:
            if self._connection is not None:
                await self._redis.connection_pool.release(self._connection)
                self._connection = None

    async def _read_once(self) -> None:
        positions = {self._doorbell: self._doorbell_id}
        for name, followers in self._subscriptions.items():
            positions[name] = f"{min(follower.after for follower in followers)}-0"
        if self._connection is None:
            self._connection = await self._redis.connection_pool.get_connection()
        block = ("BLOCK", int(BLOCK_SECONDS * 1000), "STREAMS")
        # After an error the connection closes itself, and opens again when it is next used.
        await self._connection.send_command("XREAD", *block, *positions, *positions.values())
        answer: Any = await self._connection.read_response()
        # A mapping by RESP3, which a server of version 5 does not speak, and pairs by RESP2.
        for raw_name, entries in answer.items() if isinstance(answer, dict) else answer or ():
            name = raw_name.decode()
            if name == self._doorbell:
                self._doorbell_id = entries[-1][0].decode()
            else:
                self._read_entries(name, entries, int(positions[name].partition("-")[0]))
        await self._end_lost()

    def _read_entries(
        self, name: str, entries: list[tuple[bytes, list[bytes]]], after: int
    ) -> None:
        try:
            for entry_id, (_, data, *owner) in entries:
                number = int(entry_id.partition(b"-")[0])
                frame = decode_frame(data)
                for follower in list(self._subscriptions.get(name, ())):
                    # One that came while this was read, and needs more, is served by the next read.
                    if after <= follower.after < number:
                        self._deliver(follower, number, frame, owner[1] if owner else None)
        except msgspec.DecodeError as error:
            # Only this stream ends: a host of another release must not silence all others.
            logger.error("%s holds a frame that cannot be read: %s", name, error)
            for follower in list(self._subscriptions.get(name, ())):
                self._fail(follower, InternalError("The answer could not be read."))

    def _fail(self, follower: _Subscription, error: InferenceError) -> None:
        follower.entries.put_nowait(error)
        self._drop(follower)

    def _deliver(
        self, follower: _Subscription, number: int, frame: Frame, owner: bytes | None
    ) -> None:
        if number != follower.after + 1:
            gap = f"Tokens were lost in an outage of Redis after frame {follower.after}."
            self._fail(follower, TemporaryResourceError(f"{gap} Send the request again."))
            return
        follower.after = number
        follower.heard_at = time.monotonic()
        is_own = owner is None or owner.decode() == follower.reader_id
        seen = frame if is_own else as_hit(frame)
        follower.entries.put_nowait((follower.generation_id, number, seen))
        if isinstance(frame, TERMINAL):
            self._drop(follower)

    async def _end_lost(self) -> None:
        """End followers whose generation is no longer in Redis: nobody will ever write to it."""
        now = time.monotonic()
        silent = [
            follower
            for followers in self._subscriptions.values()
            for follower in followers
            if now - follower.heard_at >= SILENCE_SECONDS and not follower.may_be_missing
        ]
        if not silent:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for follower in silent:
            pipeline.exists(keys.item(follower.generation_id))
            pipeline.xrevrange(keys.stream(follower.generation_id), count=1)
        answers: list[Any] = await pipeline.execute()
        for follower, exists, last in zip(silent, answers[::2], answers[1::2], strict=True):
            unread = bool(last) and int(last[0][0].split(b"-")[0]) > follower.after
            if exists or unread:
                follower.heard_at = now
            else:
                lost = "The request was lost in an outage of the service. Send it again."
                self._fail(follower, TemporaryResourceError(lost))

    async def _on_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if self._outage_began_at is None:
            self._outage_began_at = now
            logger.warning("token streams wait for Redis: %s", error)
        if now - self._outage_began_at > OUTAGE_SECONDS:
            for followers in list(self._subscriptions.values()):
                for follower in list(followers):
                    away = "The service cannot reach Redis. Try again later."
                    self._fail(follower, TemporaryResourceError(away))
        await asyncio.sleep(RETRY_SECONDS)

    def _drop(self, subscription: _Subscription) -> None:
        name = keys.stream(subscription.generation_id)
        followers = self._subscriptions.get(name)
        if followers and subscription in followers:
            followers.remove(subscription)
            if not followers:
                del self._subscriptions[name]
