"""Answers to questions in another wording: the semantic cache, as a step of ``generate``.

It is asked only where the surer caches have nothing. It never makes a request wait for longer than
``PATIENCE_SECONDS``, nor brings the embedder into memory.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from django.db import Error
from redis.exceptions import RedisError

from caching.keys import digest
from caching.models import CacheVerdict, SemanticEntry
from caching.questions import guard
from caching.questions.facts import Facts, facts_of
from caching.semantic import store, verdicts
from caching.semantic.shadow import is_compared
from inference.database import in_database
from inference.errors import InferenceError
from inference.messages import Delta, Finished, Generation, Vectors, decode_frame, encode
from inference.orders.cache_policy import CachePolicy
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.queue.queue import Place
from inference.runs.cached_answers import decoded, frame_of, plans_of, question_of, scope_of
from inference.runs.host_run import HostRun, hosted, work_items
from inference.runs.known_vectors import known_vectors
from inference.runs.run import Run, header_of, new_run_id
from inference.runs.runtime import runtime
from models_registry.rules.spec import ModelSpec

if TYPE_CHECKING:
    from inference.runs.generate import Generate

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 0.06
# A search that lasts longer than requests wait still gives the vector under which to store.
SEARCH_SECONDS: Final = 2.0
_LOWEST_PRIORITY: Final = 1
Search = asyncio.Task[tuple[store.Vector | None, store.Hit | None]]


@dataclass(frozen=True)
class Question:
    """The last turn of an order, and the place of its answer in the caches.

    Attributes:
        key: of the exact request.
        frame: a digest of all that shapes the answer beside the question.
    """

    text: str
    facts: Facts
    key: str
    frame: str
    retyped: str


@asynccontextmanager
async def reworded(onward: "Generate", order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Answer from the semantic cache; else note the model's answer there."""
    question = _question(order, principal)
    if question is None or not await _is_needed(question, order.cache):
        async with onward(order, principal) as run:
            yield run
        return
    shared = runtime()
    search = asyncio.create_task(_search(order, question, principal))
    shared.spawn(_finished(search))
    if order.cache.read:
        await asyncio.wait({search}, timeout=PATIENCE_SECONDS)
    hit = _result(search)[1] if search.done() else None
    frames = None if hit is None else await _frames(hit)
    if hit is None or frames is None or order.cache.shadow:
        async with onward(order, principal) as run:
            yield run
        shared.spawn(_finished(_keep(order, question, principal, run, search)))
        return
    async with _replayed(order, hit, frames, principal) as run:
        yield run
    if not shared.comparing.locked():
        shared.spawn(_finished(_compare(onward, order, principal, question, hit)))


def _question(order: Order, principal: Principal) -> Question | None:
    """The question of an order; None where no other wording of it counts: pure."""
    settings, policy = runtime().settings, order.cache
    if policy.bypass or policy.match != "semantic" or not settings.cache_embedder:
        return None
    text = question_of(order)
    facts = facts_of(text) if text and order.sampling.seed is None else None
    if facts is None:
        return None
    items = work_items(order, header_of(order, principal), principal, settings)
    (item,), (plan,) = items, plans_of(order, items, principal, settings)
    if plan is None or not isinstance(item, Generation):
        return None
    frame = digest(scope_of(order, principal), *frame_of(order, item))
    return Question(text, facts, plan.key, frame, plan.retyped)


async def _is_needed(question: Question, policy: CachePolicy) -> bool:
    """Tell whether no surer cache answers; to refresh, the entry is only replaced."""
    if not policy.read:
        return True
    redis = runtime().redis
    pointed: Any = await redis.get(keys.retyped(question.retyped))
    names = [keys.cached(key) for key in (question.key, pointed and pointed.decode()) if key]
    return not await redis.exists(*names, keys.flight(question.key))


async def _search(
    order: Order, question: Question, principal: Principal
) -> tuple[store.Vector | None, store.Hit | None]:
    """The vector of a question, and the entry that answers it; nothing while many searches run."""
    shared = runtime()
    if shared.searching.locked():
        return None, None
    async with shared.searching, asyncio.timeout(SEARCH_SECONDS):
        return await _searched(order, question, principal)


async def _searched(
    order: Order, question: Question, principal: Principal
) -> tuple[store.Vector | None, store.Hit | None]:
    spec = await runtime().resolver.resolve(runtime().settings.cache_embedder, "embedding")
    vector = await _vector(spec, question.text, principal)
    if vector is None or not order.cache.read:
        return vector, None
    partition = _partition(question, spec)

    def refusal(other: str) -> str:
        facts = facts_of(other)
        return "out of bounds" if facts is None else guard.refusal(question.facts, facts)

    def find() -> store.Hit | None:
        policy = order.cache
        if not policy.shadow and verdicts.is_stopped(order.spec.version_key, order.spec.preset):
            return None
        oldest = datetime.now(UTC) - timedelta(seconds=policy.semantic_ttl_seconds)
        group = partition, question.facts.digest
        return store.find(*group, vector, policy.min_similarity, oldest, refusal)

    return vector, await in_database(find)


def _partition(question: Question, embedder: ModelSpec) -> bytes:
    parts = (question.frame, embedder.version_key, embedder.weights, guard.VERSION)
    return bytes.fromhex(digest(*parts))


async def _vector(spec: ModelSpec, text: str, principal: Principal) -> store.Vector | None:
    """The vector of a text; None if it is too long, or no host has the embedder in memory."""
    if not await _is_ready(spec):
        return None
    tokens = await runtime().tokenizer.text(spec, text, "messages")
    if len(tokens) > spec.context_length_tokens:
        return None
    order = Order(kind="embedding", spec=spec, prompts=[tokens], run_id=new_run_id("embedding"))
    async with known_vectors(hosted, order, principal) as run:
        async for _, frame in run.frames():
            if isinstance(frame, Vectors):
                return np.frombuffer(frame.data, dtype="<f4")
    return None


async def _is_ready(spec: ModelSpec) -> bool:
    """Tell whether a living host has a version in memory."""
    shared = runtime()
    since = time.time() - shared.settings.lease_seconds
    return bool(await shared.redis.zcount(keys.ready(spec.version_key), since, "+inf"))


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


async def _keep(
    order: Order,
    question: Question,
    principal: Principal,
    run: Run,
    search: Search,
) -> None:
    """Store the model's answer, and compare it with that of a hit which was not given."""
    ended = run.choices[0].finished
    if ended is None or ended.reason != "stop" or run.cache.tier:
        return
    await asyncio.wait({search})
    vector, hit = _result(search)
    entries: Any = await runtime().redis.xrange(keys.cached(question.key))
    if vector is None or not entries:
        return
    settings, spec, now = runtime().settings, order.spec, datetime.now(UTC)
    embedder = await runtime().resolver.resolve(settings.cache_embedder, "embedding")
    frames = [fields[b"f"] for _, fields in entries]
    deltas = [frame for frame in map(decode_frame, frames) if isinstance(frame, Delta)]
    entry = SemanticEntry(
        key=question.key,
        partition=_partition(question, embedder),
        facts_digest=question.facts.digest,
        user_id=principal.user_id,
        end_user=order.end_user,
        version_key=spec.version_key,
        preset=spec.preset,
        prompt=question.text,
        answer=msgspec.msgpack.encode(frames),
        answer_text="".join(delta.text for delta in deltas),
        completion_tokens=ended.usage.completion_tokens,
        expires_at=now + timedelta(seconds=order.cache.semantic_ttl_seconds),
    )
    await in_database(store.add, entry, vector)
    if hit is not None and order.cache.shadow:
        await _judge(order, principal, question, hit, entry.answer_text)


async def _compare(
    onward: "Generate", order: Order, principal: Principal, question: Question, hit: store.Hit
) -> None:
    """Let the model answer too, and record whether the answers agree; no record counts its work."""
    tally = await in_database(verdicts.tally, order.spec.version_key, order.spec.preset)
    wanted = tally is not None and is_compared(tally.comparisons, random.random())  # noqa: S311
    if not wanted or not await _is_ready(order.spec):
        return
    own = replace(
        order,
        run_id=new_run_id(order.kind),
        priority=_LOWEST_PRIORITY,
        ledger_day=0,
        cache=CachePolicy(bypass="comparison"),
    )
    async with runtime().comparing, onward(own, principal) as run:
        frames = [frame async for _, frame in run.frames()]
    if isinstance(frames[-1], Finished):
        text = "".join(frame.text for frame in frames if isinstance(frame, Delta))
        await _judge(order, principal, question, hit, text)


async def _judge(
    order: Order, principal: Principal, question: Question, hit: store.Hit, text: str
) -> None:
    """Record whether the model's own answer agrees with that of a hit."""
    likeness = await _likeness(hit.entry.answer_text, text, principal)
    if likeness is None:
        return
    verdict = CacheVerdict(
        entry_id=hit.entry.pk,
        user_id=principal.user_id,
        end_user=order.end_user,
        prompt=question.text,
        answer_text=text,
        similarity=hit.similarity,
    )
    await in_database(verdicts.record, verdict, likeness)


async def _likeness(one: str, other: str, principal: Principal) -> float | None:
    """The cosine of two texts; None where the embedder does not tell."""
    spec = await runtime().resolver.resolve(runtime().settings.cache_embedder, "embedding")
    first = await _vector(spec, one, principal) if one else None
    second = await _vector(spec, other, principal) if other else None
    return None if first is None or second is None else float(first @ second)


def _result(search: Search) -> tuple[store.Vector | None, store.Hit | None]:
    return (None, None) if search.cancelled() or search.exception() else search.result()


async def _finished(work: Awaitable[Any]) -> None:
    """Let work finish that no request waits for, and log its error."""
    try:
        await work
    except (InferenceError, RedisError, Error, TimeoutError, msgspec.DecodeError) as error:
        logger.warning("a part of the semantic cache failed: %r", error)
