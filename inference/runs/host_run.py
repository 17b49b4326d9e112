"""A run that model hosts generate: queued in Redis, read from Redis streams."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
import redis

from inference.answers.tool_calls import RepeatedCalls
from inference.conf import InferenceSettings
from inference.database import in_database
from inference.errors import (
    InferenceError,
    ModelLoadingError,
    QueueTimeoutError,
    TemporaryResourceError,
)
from inference.messages import (
    SEEDS,
    Delta,
    Embedding,
    Finished,
    Frame,
    Generation,
    RunHeader,
    Started,
    Usage,
    WorkItem,
    as_hit,
)
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.queue.cache_plan import CachePlan
from inference.queue.queue import Place
from inference.request_id import current_traceparent
from inference.runs.availability import enqueue, explain_absence, load_fraction
from inference.runs.cached_answers import decoded, drop, note_of, plans_of, sources
from inference.runs.run import CacheNote, ChoiceState, Run, header_of
from inference.runs.runtime import Runtime, runtime
from inference.streams.reader import Followed

logger = logging.getLogger(__name__)

# The host answers a passed deadline itself; only if none does, the web process gives up.
FIRST_FRAME_SLACK_SECONDS = 5.0
# How long a stopped run is given to say what it had generated.
SETTLE_SECONDS = 20.0
STOP_RETRY_SECONDS = 0.5


class HostRun(Run):
    """Follows the Redis streams of a run's generations.

    Args:
        header, after: as ``Run``.
        shared: connections.
        repeats: stops a choice that makes a call of a tool again; None to stop none.
    """

    def __init__(
        self,
        header: RunHeader,
        shared: Runtime,
        after: Sequence[int] = (),
        repeats: RepeatedCalls | None = None,
    ) -> None:
        super().__init__(header, after)
        self._shared = shared
        self._repeats = repeats
        self._repeating: set[int] = set()
        self._has_begun = self._has_settled = False
        self._is_stopped = asyncio.Event()
        self._read = [Usage(0, 0)] * header.choices
        self._streams = list(header.item_ids)
        self._choice_of = {one: choice for choice, one in enumerate(self._streams)}
        self._stack = AsyncExitStack()
        self._followed: Followed | None = None

    async def open(self, places: Sequence[Place] = (), pace: float = 0) -> None:
        """Begin to read the answers; a choice whose last frame was read before is over.

        Args:
            places: of the answers, as the queue has given them; empty to look for them.
            pace: tokens a second at which answers from the cache are given, 0 for all at once.

        Raises:
            msgspec.DecodeError: an answer in the cache cannot be read.
        """
        own_ids, reader = self.header.item_ids, self._shared.reader
        kept = {
            choice: decoded(data for _, data in place.entries)
            for choice, place in enumerate(places)
            if place.key
        }
        found = [place.stream_id for place in places]
        self._streams = found or await sources(self._shared.redis, own_ids)
        self._choice_of |= {one: choice for choice, one in enumerate(self._streams)}
        pairs = dict(zip(self._streams, own_ids, strict=True))
        begun = {one: own for one, own in pairs.items() if self._state(one).position}
        for stream, (number, frame) in (await reader.last_frames(begun)).items():
            if number <= self._state(stream).position:
                self._state(stream).take(self._state(stream).position, frame)
        positions = {
            stream: self._state(stream).position
            for stream in pairs
            if not self._state(stream).is_over and self._choice_of[stream] not in kept
        }
        shared = {one: own for one, own in pairs.items() if one != own and one in positions}
        self._followed = await self._stack.enter_async_context(reader.follow(positions, shared))
        for choice, frames in kept.items():
            playing = asyncio.create_task(self._play(choice, frames, pace))
            self._stack.callback(playing.cancel)
        self.cache = note_of(places)

    async def _play(self, choice: int, frames: Sequence[Frame], pace: float) -> None:
        """Give an answer from the cache; all the rest at once when the run is stopped."""
        for number, frame in enumerate(frames, 1):
            if pace and isinstance(frame, Delta):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(len(frame.token_ids) / pace):
                        await self._is_stopped.wait()
            if self._followed is not None:
                entry = (self._streams[choice], number, as_hit(frame))
                self._followed.entries.put_nowait(entry)

    def _state(self, stream: str) -> ChoiceState:
        return self.choices[self._choice_of[stream]]

    async def close(self) -> None:
        """Stop following; the generations go on."""
        await self._stack.aclose()
        self._followed = None

    async def next(self, within: float | None = None) -> tuple[int, Frame] | None:
        """Stops a choice that makes a call again, besides the work of ``Run.next``."""
        entry = await super().next(within)
        if entry is not None and self._repeats is not None and self._repeats(*entry):
            choice = entry[0]
            self._repeating.add(choice)
            await self._cancel(choice)
        return entry

    async def stop(self) -> bool:
        """Cancel what still runs; False when all had ended."""
        self._is_stopped.set()
        running = [index for index, choice in enumerate(self.choices) if not choice.is_over]
        return any([await self._cancel(choice) for choice in running])

    async def loading(self) -> float | None:
        """The loaded share (0 to 1) of a version that is on its way into memory, or None."""
        return await load_fraction(self._shared.redis, self.header.version_key)

    async def settle(self) -> None:
        """Stop what still runs and wait for its last frames, so that usage is known.

        A second call does nothing, so that a run without an end is waited for once.
        """
        if self._next is not None:
            self._take(self._next)
        if self.is_over or self._has_settled:
            return
        self._has_settled = True
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._stop_surely()
                while not self.is_over:
                    self._take(await self._follow())
        except (TimeoutError, InferenceError, redis.RedisError) as error:
            self.error_code = self.error_code or "unsettled"
            logger.warning("run %s did not settle: %r", self.header.id, error)

    async def abandon(self) -> None:
        """Stop all generations of a run that nobody reads, and give back its place."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._stop_surely()
        except (TimeoutError, redis.RedisError) as error:
            logger.warning("run %s could not be stopped: %r", self.header.id, error)
        finally:
            self._shared.places[self.header.model] -= 1
            await self.close()

    async def _cancel(self, choice: int) -> bool:
        item_id = self.header.item_ids[choice]
        return await self._shared.queue.cancel(self.header.version_key, item_id)

    async def _stop_surely(self) -> None:
        """``stop``, however long Redis is away."""
        while True:
            try:
                await self.stop()
                return
            except (redis.ConnectionError, redis.TimeoutError):
                await asyncio.sleep(STOP_RETRY_SECONDS)

    async def _receive(self, within: float | None) -> tuple[int, int, Frame] | None:
        settings = self._shared.settings
        limit = settings.request_timeout_seconds
        if self.header.mode:
            # Its conductor ends it in time.
            limit = settings.orchestration.timeout_seconds + SETTLE_SECONDS
        elif not self._has_begun:
            limit = min(limit, settings.queue_timeout_seconds + FIRST_FRAME_SLACK_SECONDS)
        deadline = self.began_at + limit
        remaining = deadline - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(remaining, within or remaining))):
                return await self._follow()
        except TimeoutError:
            if time.monotonic() < deadline:
                return None
            late = self._late(limit)
            self.error_code = late.code
            raise late from None

    async def _follow(self) -> tuple[int, int, Frame]:
        if self._followed is None:
            raise RuntimeError("the run is not open")
        stream, number, frame = await self._followed.next()
        while self._state(stream).is_over:
            # Others go on with a generation that this run has left.
            stream, number, frame = await self._followed.next()
        self._has_begun = True
        choice = self._choice_of[stream]
        seen = self._read[choice]
        if isinstance(frame, Started):
            self._read[choice] = Usage(frame.prompt_tokens, 0, frame.cached_tokens)
        elif isinstance(frame, Delta):
            tokens = seen.completion_tokens + len(frame.token_ids)
            self._read[choice] = msgspec.structs.replace(seen, completion_tokens=tokens)
        elif stream != self._streams[choice]:
            # The run has left a generation that it shared.
            number, frame = self.choices[choice].position + 1, Finished("cancelled", seen)
        is_cancelled = isinstance(frame, Finished) and frame.reason == "cancelled"
        if is_cancelled and choice in self._repeating:
            frame = msgspec.structs.replace(frame, reason="stop")
        return choice, number, frame

    def _late(self, limit: float) -> InferenceError:
        if not self._has_begun:
            return QueueTimeoutError(
                f"The request was not started within {limit:g} s. Try again later.",
                retry_after_ms=5000,
            )
        return TemporaryResourceError(
            f"The request did not finish within {limit:g} s. Ask for fewer tokens.",
            code="request_timeout",
        )


@asynccontextmanager
async def hosted(order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Queue an order for the hosts of its version and follow the answer.

    Raises:
        ModelBusyError, ModelLoadingError: it cannot be queued now.
    """
    shared, header = runtime(), header_of(order, principal)
    repeats = RepeatedCalls(header.call_syntax) if header.call_syntax else None
    run = HostRun(header, shared, repeats=repeats)
    parent = current_traceparent.get()
    items = work_items(order, header, principal, shared.settings, parent)
    plans = plans_of(order, items, principal, shared.settings)

    async def queued(plans: Sequence[CachePlan | None]) -> list[Place]:
        put_into_queue = functools.partial(
            shared.queue.enqueue, items, order.keep_alive_seconds, header, order.ledger_day, plans
        )
        return await enqueue(shared.redis, header.version_key, put_into_queue)

    try:
        places = await queued(plans)
        try:
            await run.open(places, order.cache.pace)
        except msgspec.DecodeError as error:
            logger.error("an answer in the cache cannot be read: %s", error)
            await drop(shared.redis, places)
            again = [plan and msgspec.structs.replace(plan, read=False) for plan in plans]
            await run.open(await queued(again))
        if order.cache.bypass and order.kind != "embedding":
            run.cache = CacheNote(f"bypass;{order.cache.bypass}")
        elif run.cache.status == "miss" and not _is_comparable(order, plans):
            run.cache = CacheNote("miss;exact-only")
    except ModelLoadingError:
        await run.close()
        raise await in_database(explain_absence, header) from None
    except BaseException:
        # The items may be queued all the same: the reply was late, or the client has left.
        # They take a place until they are stopped, so that an outage of Redis collects few.
        shared.places[header.model] += 1
        shared.spawn(run.abandon())
        raise
    try:
        yield run
    finally:
        try:
            await run.settle()
        finally:
            await run.close()
        if order.kind == "embedding":
            await _forget(header, shared)


def _is_comparable(order: Order, plans: Sequence[CachePlan | None]) -> bool:
    """Tell whether the question is compared with others as far as the request wants."""
    return order.cache.match == "exact" or any(plan and plan.retyped for plan in plans)


async def _forget(header: RunHeader, shared: Runtime) -> None:
    """Delete an embedding's vectors: megabytes that nobody reads again.

    The last frame stays: the record can be made from it, should this process die now.
    """
    pipeline = shared.redis.pipeline(transaction=False)
    pipeline.delete(keys.header(header.id))
    for item_id in header.item_ids:
        pipeline.xtrim(keys.stream(item_id), maxlen=1, approximate=False)
    with contextlib.suppress(redis.RedisError):  # it expires by itself
        await pipeline.execute()


def work_items(
    order: Order,
    header: RunHeader,
    principal: Principal,
    settings: InferenceSettings,
    traceparent: str = "",
) -> list[WorkItem]:
    """The items to queue for an order, one for each choice; pure."""
    version_key = order.spec.version_key
    if order.kind == "embedding":
        item_id = header.item_ids[0]
        return [Embedding(item_id, version_key, order.prompts, traceparent=traceparent)]
    # With one queue for all nobody goes before the others.
    fifo = settings.queue_strategy == "fifo"
    salt = cache_salt(principal, settings.prefix_sharing)
    items: list[WorkItem] = []
    for index, item_id in enumerate(header.item_ids):
        sampling = order.sampling
        if sampling.seed is not None:
            seed = (sampling.seed + index % order.n) % SEEDS
            sampling = msgspec.structs.replace(sampling, seed=seed)
        items.append(
            Generation(
                id=item_id,
                version_key=version_key,
                prompt_token_ids=order.prompts[index // order.n],
                max_tokens=order.max_tokens,
                sampling=sampling,
                stop=order.stop,
                top_logprobs=order.top_logprobs,
                priority=settings.default_priority if fifo else order.priority,
                ignore_eos=order.ignore_eos,
                grammar=order.grammar,
                cache_salt=salt,
                traceparent=traceparent,
                weights=order.spec.weights,
            )
        )
    return items


def cache_salt(principal: Principal, sharing: str) -> str:
    """The salt that keeps apart prompts of callers that may not share them, as in vLLM.

    Args:
        principal: the caller.
        sharing: ``key``, ``user`` or ``all``.
    """
    if sharing == "all":
        return ""
    if sharing == "key" and principal.key_id is not None:
        return f"key:{principal.key_id}"
    return f"user:{principal.user_id}"
