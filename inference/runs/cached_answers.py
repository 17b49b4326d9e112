"""Answers from the cache: the keys of an order's generations, and where its answers are."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from caching.answers import CachedAnswer
from caching.keys import digest, parts_of
from caching.questions.canonical import canonical_text
from inference.conf import InferenceSettings
from inference.messages import TERMINAL, Frame, Generation, WorkItem, decode_frame
from inference.orders.order import Order
from inference.orders.requests import ChatRequest
from inference.principal import Principal
from inference.prompts.known_prompts import changes_by_itself
from inference.queue import keys
from inference.queue.cache_plan import CachePlan
from inference.queue.queue import Place
from inference.runs.run import TIERS, CacheNote

# Fields that do not shape the answer. Any other field is in the key.
NOT_SHAPING: Final = {
    *("id", "priority", "emitted_token_ids", "emitted_frames", "crashes"),
    *("cache_salt", "traceparent"),
}
# Fields of a request that do not shape the answer, or that ``frame_of`` adds itself.
NOT_ASKING: Final = {
    *("model", "messages", "stream", "stream_options", "user", "keep_alive"),
    *("priority", "service_type", "cache"),
}


def plans_of(
    order: Order, items: Sequence[WorkItem], principal: Principal, settings: InferenceSettings
) -> list[CachePlan | None]:
    """The plan of each item; None where the cache is not used: pure."""
    policy, spec = order.cache, order.spec
    is_streamed = bool(order.request and order.request.stream)
    if policy.bypass:
        return [None] * len(items)
    scope = scope_of(order, principal)
    plans: list[CachePlan | None] = []
    seen: set[str] = set()
    for index, item in enumerate(items):
        if not isinstance(item, Generation):
            raise TypeError(f"{item.id} is no generation")
        shape = parts_of(item, NOT_SHAPING)
        # Choices of one prompt differ, even where they have no seed.
        parts = (scope, order.call_syntax, spec.cache_type_k, spec.cache_type_v, index % order.n)
        key = digest(shape, *parts)
        question = question_of(order) if policy.match != "exact" else ""
        canonical = canonical_text(question)
        retyped = digest(canonical, *frame_of(order, item), *parts) if canonical else ""
        run, _, number = item.id.rpartition(".")
        plans.append(
            CachePlan(
                item=f"{run}-shared.{number}",
                key=key,
                about=CachedAnswer(
                    version=item.version_key,
                    preset=spec.preset,
                    user=principal.user_id,
                    end_user=order.end_user,
                ),
                ttl=policy.ttl_seconds,
                budget=settings.cache_bytes,
                copy_seconds=settings.stream_ttl_seconds if is_streamed else None,
                read=policy.read,
                retyped=retyped,
            )
            # A prompt that occurs twice in a request is generated twice.
            if key not in seen
            else None
        )
        seen.add(key)
    return plans


def scope_of(order: Order, principal: Principal) -> tuple[int | str, ...]:
    """The users whose answers count for an order."""
    scopes = {"all": (), "user": (principal.user_id,)}
    return scopes.get(order.cache.scope, (principal.user_id, order.end_user))


def question_of(order: Order) -> str:
    """The last turn of a conversation, where another wording of it may have the same answer.

    It is empty where the form of the answer matters, with tools, grammars or probabilities, and
    where the prompt has the date.
    """
    request = order.request
    if not isinstance(request, ChatRequest) or request.tools or request.continues_last_message:
        return ""
    if changes_by_itself(order.spec.chat_template):
        return ""
    if order.n > 1 or order.grammar or order.top_logprobs is not None:
        return ""
    last = request.messages[-1]
    return last.as_template_message()["content"] if last.role == "user" else ""


def frame_of(order: Order, item: Generation) -> tuple[Any, ...]:
    """All that shapes an answer beside the question."""
    request, spec = order.request, order.spec
    if not isinstance(request, ChatRequest):
        raise TypeError(f"{item.id} is no chat")
    # An answer may be as long as fits after the prompt, which depends on the wording.
    shape = parts_of(item, NOT_SHAPING | {"prompt_token_ids", "max_tokens"})
    last = msgspec.structs.replace(request.messages[-1], content=None)
    limits = (spec.sequence_limit_tokens, spec.limits.max_output_tokens, spec.chat_template)
    return shape, parts_of(request, NOT_ASKING), [*request.messages[:-1], last], limits


def decoded(entries: Iterable[bytes]) -> list[Frame]:
    """The frames of an answer from a cache. Raises ``msgspec.DecodeError``."""
    frames = [decode_frame(data) for data in entries]
    if not frames or not isinstance(frames[-1], TERMINAL):
        raise msgspec.DecodeError("the answer has no end")
    return frames


def note_of(places: Sequence[Place]) -> CacheNote:
    """Tell how the cache took part in an answer with these places: pure."""
    tiers = [place.tier for place in places]
    if not all(tiers):
        return CacheNote("miss")
    oldest = max(places, key=lambda place: place.age_seconds, default=Place("", ""))
    status = min(tiers, key=TIERS.index, default="")
    return CacheNote(status, oldest.key[:16], oldest.age_seconds, oldest.similarity)


async def sources(redis: Redis, item_ids: Sequence[str]) -> list[str]:
    """The ids of the streams that answer these items."""
    found: Any = await redis.mget([keys.source(item_id) for item_id in item_ids])
    return [
        source.split(b" ")[0].decode() if source else item_id
        for item_id, source in zip(item_ids, found, strict=True)
    ]


async def drop(redis: Redis, places: Sequence[Place]) -> None:
    """Delete answers that cannot be read, and their copies."""
    bad = [place for place in places if place.key]
    names = [name for one in bad for name in (keys.cached(one.key), keys.stream(one.stream_id))]
    await redis.delete(*names)
