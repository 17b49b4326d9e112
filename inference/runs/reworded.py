"""Answers to questions in another wording: the semantic cache, as a step of ``generate``.

It is asked only where the surer caches have nothing. It never makes a request wait for longer than
``PATIENCE_SECONDS``, nor brings the embedder into memory.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.db import Error
from redis.exceptions import RedisError

from caching.semantic import store
from inference.database import in_database
from inference.errors import InferenceError
from inference.messages import encode
from inference.orders.cache_policy import CachePolicy
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.queue.queue import Place
from inference.runs.cached_answers import decoded
from inference.runs.comparison import keep_answer, note_hit
from inference.runs.host_run import HostRun
from inference.runs.run import Run, header_of
from inference.runs.runtime import runtime
from inference.runs.semantic_search import Question, found_by, question_asked, search_answer

if TYPE_CHECKING:
    from inference.runs.generate import Generate

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 0.06


@asynccontextmanager
async def reworded(onward: "Generate", order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Answer from the semantic cache; else note the model's answer there."""
    shared = runtime()
    question = question_asked(order, principal, shared.settings)
    if question is None or not await _is_needed(question, order.cache):
        async with onward(order, principal) as run:
            yield run
        return
    search = asyncio.create_task(search_answer(order, question, principal))
    shared.spawn(_finished(search))
    if order.cache.read:
        await asyncio.wait({search}, timeout=PATIENCE_SECONDS)
    hit = found_by(search)[1] if search.done() else None
    frames = None if hit is None else await _frames(hit)
    if hit is None or frames is None or order.cache.shadow:
        async with onward(order, principal) as run:
            yield run
        shared.spawn(_finished(keep_answer(order, question, principal, run, search)))
        return
    async with _replayed(order, hit, frames, principal) as run:
        yield run
    shared.spawn(_finished(note_hit(onward, order, principal, question, hit)))


async def _is_needed(question: Question, policy: CachePolicy) -> bool:
    """Tell whether no surer cache answers; to refresh, the entry is only replaced."""
    if not policy.read:
        return True
    redis = runtime().redis
    pointed: Any = await redis.get(keys.retyped(question.retyped))
    names = [keys.cached(key) for key in (question.key, pointed and pointed.decode()) if key]
    return not await redis.exists(*names, keys.flight(question.key))


async def _frames(hit: store.Hit) -> list[bytes] | None:
    """The encoded frames of an entry; an entry that cannot be read is deleted."""
    try:
        frames: list[bytes] = msgspec.msgpack.decode(bytes(hit.entry.answer), type=list[bytes])
        decoded(frames)
    except msgspec.DecodeError as error:
        logger.error("the cached answer %s cannot be read: %s", hit.entry.key, error)
        runtime().spawn(_finished(in_database(lambda: store.forget(key=hit.entry.key))))
        return None
    return frames


@asynccontextmanager
async def _replayed(
    order: Order, hit: store.Hit, frames: list[bytes], principal: Principal
) -> AsyncIterator[Run]:
    """The run of an answer that an entry holds, in a stream of its own."""
    shared, entry = runtime(), hit.entry
    header = header_of(order, principal)
    (own,) = header.item_ids
    pipeline = shared.redis.pipeline()
    ttl = shared.settings.stream_ttl_seconds
    pipeline.set(keys.header(header.id), encode(header), ex=ttl)
    for number, data in enumerate(frames, 1):
        # Nobody owns the tokens that were computed for this answer.
        pipeline.xadd(keys.stream(own), {"f": data, "o": ""}, id=f"{number}-0")
    pipeline.expire(keys.stream(own), ttl)
    await pipeline.execute()
    age = (datetime.now(UTC) - entry.created_at).total_seconds()
    run = HostRun(header, shared)
    place = Place("semantic", own, entry.key, age, tuple(enumerate(frames, 1)), hit.similarity)
    await run.open([place], order.cache.pace)
    try:
        yield run
    finally:
        try:
            await run.settle()
        finally:
            await run.close()


async def _finished(work: Awaitable[Any]) -> None:
    """Let work finish that no request waits for, and log its error."""
    try:
        await work
    except (InferenceError, RedisError, Error, TimeoutError, msgspec.DecodeError) as error:
        logger.warning("a part of the semantic cache failed: %r", error)
