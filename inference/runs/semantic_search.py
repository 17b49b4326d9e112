"""Search for the answer to a question in another wording; the embedder is never loaded for it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from caching.keys import digest
from caching.questions import guard
from caching.questions.facts import Facts, facts_of
from caching.semantic import store, verdicts
from inference.conf import InferenceSettings
from inference.database import in_database
from inference.messages import Generation, Vectors
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.runs.cached_answers import frame_of, plans_of, question_of, scope_of
from inference.runs.host_run import hosted, work_items
from inference.runs.known_vectors import known_vectors
from inference.runs.run import header_of, new_run_id
from inference.runs.runtime import runtime
from models_registry.rules.spec import ModelSpec

# A search that lasts longer than requests wait still gives the vector under which to store.
SEARCH_SECONDS: Final = 2.0
Found = tuple[store.Vector | None, store.Hit | None]
Search = asyncio.Task[Found]


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


def question_asked(
    order: Order, principal: Principal, settings: InferenceSettings
) -> Question | None:
    """The question of an order; None where no other wording of it counts: pure."""
    policy = order.cache
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


async def search_answer(order: Order, question: Question, principal: Principal) -> Found:
    """The vector of a question, and the entry that answers it; nothing while many searches run."""
    shared = runtime()
    if shared.searching.locked():
        return None, None
    async with shared.searching, asyncio.timeout(SEARCH_SECONDS):
        return await _searched(order, question, principal)


async def _searched(order: Order, question: Question, principal: Principal) -> Found:
    spec = await runtime().resolver.resolve(runtime().settings.cache_embedder, "embedding")
    vector = await vector_of(spec, question.text, principal)
    if vector is None or not order.cache.read:
        return vector, None
    partition = partition_of(question, spec)

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


def partition_of(question: Question, embedder: ModelSpec) -> bytes:
    parts = (question.frame, embedder.version_key, embedder.weights, guard.VERSION)
    return bytes.fromhex(digest(*parts))


async def vector_of(spec: ModelSpec, text: str, principal: Principal) -> store.Vector | None:
    """The vector of a text; None if it is too long, or no host has the embedder in memory."""
    return ((await vectors_of(spec, [text], principal)) or {}).get(text)


async def vectors_of(
    spec: ModelSpec, texts: Sequence[str], principal: Principal
) -> dict[str, store.Vector] | None:
    """The vectors of texts that are not too long; None if no host has the embedder in memory."""
    if not await is_ready(spec):
        return None
    tokens = {text: await runtime().tokenizer.text(spec, text, "messages") for text in texts}
    short = [text for text in tokens if 0 < len(tokens[text]) <= spec.context_length_tokens]
    if not short:
        return {}
    prompts = [tokens[text] for text in short]
    order = Order(kind="embedding", spec=spec, prompts=prompts, run_id=new_run_id("embedding"))
    async with known_vectors(hosted, order, principal) as run:
        async for _, frame in run.frames():
            if isinstance(frame, Vectors):
                rows = np.frombuffer(frame.data, dtype="<f4").reshape(len(short), frame.dimensions)
                return dict(zip(short, rows, strict=True))
    return None


async def is_ready(spec: ModelSpec) -> bool:
    """Tell whether a living host has a version in memory."""
    shared = runtime()
    since = time.time() - shared.settings.lease_seconds
    return bool(await shared.redis.zcount(keys.ready(spec.version_key), since, "+inf"))


def found_by(search: Search) -> Found:
    """The vector and the hit of a search that is over; nothing where it failed."""
    return (None, None) if search.cancelled() or search.exception() else search.result()
