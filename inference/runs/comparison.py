"""Answers of the model beside those of the semantic cache: store them, and compare both."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import store, verdicts
from caching.semantic.shadow import is_compared
from inference.database import in_database
from inference.messages import Delta, Finished, decode_frame
from inference.orders.cache_policy import CachePolicy
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.runs.run import Run, new_run_id
from inference.runs.runtime import runtime
from inference.runs.semantic_search import (
    Question,
    Search,
    found_by,
    is_ready,
    partition_of,
    vector_of,
)

if TYPE_CHECKING:
    from inference.runs.generate import Generate

_LOWEST_PRIORITY: Final = 1


async def keep_answer(
    order: Order, question: Question, principal: Principal, run: Run, search: Search
) -> None:
    """Store the model's answer, and compare it with that of a hit which was not given."""
    ended = run.choices[0].finished
    if ended is None or ended.reason != "stop" or run.cache.tier:
        return
    await asyncio.wait({search})
    vector, hit = found_by(search)
    entries: Any = await runtime().redis.xrange(keys.cached(question.key))
    if vector is None or not entries:
        return
    settings, spec, now = runtime().settings, order.spec, datetime.now(UTC)
    embedder = await runtime().resolver.resolve(settings.cache_embedder, "embedding")
    frames = [fields[b"f"] for _, fields in entries]
    deltas = [frame for frame in map(decode_frame, frames) if isinstance(frame, Delta)]
    entry = SemanticEntry(
        key=question.key,
        partition=partition_of(question, embedder),
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


async def note_hit(
    onward: "Generate", order: Order, principal: Principal, question: Question, hit: store.Hit
) -> None:
    """Record a hit that was given; for a part of the hits with the model's own answer."""
    text = await _own_answer(onward, order, principal)
    await _judge(order, principal, question, hit, text)


async def _own_answer(onward: "Generate", order: Order, principal: Principal) -> str:
    """The model's answer, that no record counts; "" where none is wanted or possible now."""
    shared = runtime()
    tally = await in_database(verdicts.tally, order.spec.version_key, order.spec.preset)
    wanted = tally is not None and is_compared(tally.comparisons, random.random())  # noqa: S311
    if not wanted or shared.comparing.locked() or not await is_ready(order.spec):
        return ""
    own = replace(
        order,
        run_id=new_run_id(order.kind),
        priority=_LOWEST_PRIORITY,
        ledger_day=0,
        cache=CachePolicy(bypass="comparison"),
    )
    async with shared.comparing, onward(own, principal) as run:
        frames = [frame async for _, frame in run.frames()]
    if not isinstance(frames[-1], Finished):
        return ""
    return "".join(frame.text for frame in frames if isinstance(frame, Delta))


async def _judge(
    order: Order, principal: Principal, question: Question, hit: store.Hit, text: str
) -> None:
    """Record a hit, and whether the model's own answer ``text``, if there is one, agrees."""
    verdict = CacheVerdict(
        entry_id=hit.entry.pk,
        user_id=principal.user_id,
        end_user=order.end_user,
        prompt=question.text,
        answer_text=text,
        similarity=hit.similarity,
    )
    likeness = await _likeness(hit.entry.answer_text, text, principal)
    await in_database(verdicts.record, verdict, likeness)


async def _likeness(one: str, other: str, principal: Principal) -> float | None:
    """The cosine of two texts; None where one is empty or the embedder does not tell."""
    if not one or not other:
        return None
    spec = await runtime().resolver.resolve(runtime().settings.cache_embedder, "embedding")
    first, second = [await vector_of(spec, text, principal) for text in (one, other)]
    return None if first is None or second is None else float(first @ second)
