"""The write entrance of inference: start runs, stop them, find them again.

Used by the API, the WebSocket consumer and jobs alike.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
import redis.asyncio
from django.conf import settings as django_settings

from inference.conf import InferenceSettings, inference_settings
from inference.database import in_database
from inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelBusyError,
    ModelLoadingError,
    NotFoundError,
)
from inference.messages import SEEDS, Embedding, Frame, Generation, SamplingParameters, WorkItem
from inference.principal import Principal
from inference.prompts.tokenizer import Tokenizer
from inference.queue import keys
from inference.queue.queue import ITEM_SLACK_SECONDS, Queue
from inference.runs.availability import enqueue, explain_absence, load_fraction
from inference.runs.record import record_of
from inference.runs.resolution import Resolver
from inference.runs.run import Kind, Run, RunHeader, new_run_id
from inference.streams.reader import StreamReader
from metrics.recorder import record_run
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)

# The host answers a passed deadline itself; only if none does, the web process gives up.
FIRST_FRAME_SLACK_SECONDS = 5.0
MAX_REDIS_CONNECTIONS = 32


@dataclass(frozen=True)
class GenerationOrder:
    """What to generate: admission has checked that it fits.

    ``prompts`` are token ids; each is generated ``n`` times, choices numbered prompt by prompt.
    ``grammar``, if any, is what answers must match, checked by ``Tokenizer.check_grammar``.
    ``ignored`` names parts of the request that have no effect. ``ends_early`` is asked about every
    frame of every choice, and stops the choice by answering True.
    """

    kind: Kind
    spec: ModelSpec
    prompts: list[list[int]]
    max_tokens: int
    sampling: SamplingParameters
    n: int = 1
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    priority: int = 2
    ignore_eos: bool = False
    end_user: str = ""
    include_usage: bool = False
    grammar: str = ""
    call_syntax: str = ""
    keep_alive_seconds: float | None = None
    ignored: tuple[str, ...] = ()
    ends_early: Callable[[int, Frame], bool] | None = None


class InferenceService:
    """This process's connections, and what can be done over them."""

    def __init__(self, settings: InferenceSettings, redis_url: str) -> None:
        self.settings = settings
        # A pool that waits: the usual one raises when a hundred clients leave at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url,
            max_connections=MAX_REDIS_CONNECTIONS,
            timeout=10,
            socket_connect_timeout=2,
            health_check_interval=30,
        )
        self.redis = redis.asyncio.Redis(connection_pool=pool)
        self.queue = Queue(self.redis, settings)
        self.reader = StreamReader(self.redis)
        self.tokenizer = Tokenizer(settings.prompt_workers, settings.max_prompt_characters)
        # Kept here, and not only counted: a response that was dropped unread is ended by the
        # garbage collector, which must not find its run in the same heap of garbage.
        self._open: dict[str, Run] = {}
        self.resolver = Resolver(settings.models_dir)
        self.login_slot = asyncio.Semaphore(1)
        self._settling: set[asyncio.Task[None]] = set()

    async def start_generations(self, principal: Principal, order: GenerationOrder) -> Run:
        """Queue the generations of an order and open their streams.

        Raises:
            ModelBusyError, ModelLoadingError: it cannot be queued now.
        """
        header = replace(
            self._header(principal, order.kind, order.spec, len(order.prompts) * order.n),
            choices_per_prompt=order.n,
            include_usage=order.include_usage,
            with_logprobs=order.top_logprobs is not None,
            call_syntax=order.call_syntax,
        )
        items: list[WorkItem] = []
        for index, item_id in enumerate(header.item_ids):
            sampling = order.sampling
            if sampling.seed is not None:
                sampling = _with_seed(sampling, sampling.seed + index % order.n)
            items.append(
                Generation(
                    id=item_id,
                    version_key=order.spec.version_key,
                    prompt_token_ids=order.prompts[index // order.n],
                    max_tokens=order.max_tokens,
                    sampling=sampling,
                    stop=order.stop,
                    top_logprobs=order.top_logprobs,
                    priority=self._rank(order.priority),
                    ignore_eos=order.ignore_eos,
                    grammar=order.grammar,
                    cache_salt=cache_salt(principal, self.settings.prefix_sharing),
                )
            )
        run = self._run(header, [])
        run.ends_early = order.ends_early
        return await self._start(run, items, order.keep_alive_seconds)

    async def load_fraction(self, run: Run) -> float | None:
        """How far the version of a run is on its way into memory; None when it is not."""
        return await load_fraction(self.redis, run.header.version_key)

    def _rank(self, priority: int) -> int:
        """The priority that counts: with one queue for all nobody goes before the others."""
        fifo = self.settings.queue_strategy == "fifo"
        return self.settings.default_priority if fifo else priority

    async def start_embedding(
        self,
        principal: Principal,
        spec: ModelSpec,
        inputs: list[list[int]],
        keep_alive_seconds: float | None = None,
    ) -> Run:
        """Queue texts to embed. Raises as ``start_generations`` does."""
        header = self._header(principal, "embedding", spec, choices=1)
        item = Embedding(id=header.item_ids[0], version_key=spec.version_key, inputs=inputs)
        return await self._start(self._run(header, []), [item], keep_alive_seconds)

    async def end(self, run: Run, principal: Principal, end_user: str = "") -> None:
        """End a run for good, once: stop what still runs, record it, free its place.

        The caller may be a task that is being cancelled because its client left, so the work is
        done in a task of its own.
        """
        if not run.ended:
            run.ended = True
            await asyncio.shield(self._spawn(self._end(run, principal, end_user)))

    async def find_run(self, principal: Principal, run_id: str, after: list[int] | None) -> Run:
        """A run of this caller, to be read again from a position.

        Args:
            run_id: its id.
            after: last frame seen per choice; None reads from the beginning.

        Raises:
            NotFoundError: no such run, too long ago, or somebody else's.
        """
        fields: dict[bytes, bytes] = await cast("Any", self.redis.hgetall(keys.run(run_id)))
        first = f"{run_id}.0"
        if not await self.redis.exists(keys.item(first), keys.stream(first)):
            fields = {}
        if not fields or int(fields[b"user_id"]) != principal.user_id:
            raise NotFoundError(
                f"There is no stream {run_id!r}. Streams are kept for "
                f"{self.settings.stream_ttl_seconds} s after their end.",
                code="stream_not_found",
            )
        header = RunHeader(
            id=run_id,
            kind=cast("Kind", fields[b"kind"].decode()),
            user_id=principal.user_id,
            model=fields[b"model"].decode(),
            version_key=fields[b"version_key"].decode(),
            created_unix_seconds=int(fields[b"created"]),
            choices=int(fields[b"choices"]),
            choices_per_prompt=int(fields[b"choices_per_prompt"]),
            include_usage=fields[b"include_usage"] == b"1",
            with_logprobs=fields[b"with_logprobs"] == b"1",
            call_syntax=fields.get(b"call_syntax", b"").decode(),
            deprecation=fields.get(b"deprecation", b"").decode(),
        )
        if not any(after or ()):
            after = None  # from the beginning, however many choices
        if after is not None and len(after) != header.choices:
            raise InvalidRequestError(
                f"The position names {len(after)} choices, but the run has {header.choices}.",
                param="after",
            )
        return self._run(header, after or [])

    async def close(self) -> None:
        """Close connections and processes; runs that are ending get to their end first."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=2)
        await self.reader.close()
        self.tokenizer.close()
        await self.redis.aclose()

    def _header(
        self,
        principal: Principal,
        kind: Kind,
        spec: ModelSpec,
        choices: int,
    ) -> RunHeader:
        return RunHeader(
            id=new_run_id(kind),
            kind=kind,
            user_id=principal.user_id,
            model=spec.model_slug,
            version_key=spec.version_key,
            created_unix_seconds=int(time.time()),
            choices=choices,
            deprecation=spec.deprecation,
        )

    def _run(self, header: RunHeader, after: list[int]) -> Run:
        return Run(
            header=header,
            reader=self.reader,
            queue=self.queue,
            first_frame_seconds=self.settings.queue_timeout_seconds + FIRST_FRAME_SLACK_SECONDS,
            total_seconds=self.settings.request_timeout_seconds,
            after=after,
        )

    async def _start(
        self, run: Run, items: list[WorkItem], keep_alive_seconds: float | None = None
    ) -> Run:
        header = run.header
        self._require_place(header.model)
        self._open[header.id] = run
        try:
            await run.open()
            await self._remember(header)
            await enqueue(self.redis, self.queue, items, keep_alive_seconds)
        except ModelLoadingError:
            del self._open[header.id]
            await run.close()
            raise await in_database(explain_absence, header) from None
        except BaseException:
            # The items may be queued all the same: the answer was late, or the client has left.
            self._spawn(self._abandon(run))
            raise
        return run

    def _require_place(self, model: str) -> None:
        """Raise ``ModelBusyError`` where this process may run no more, or none of ``model``."""
        if len(self._open) >= self.settings.max_concurrent_requests:
            raise ModelBusyError(
                f"This service runs {len(self._open)} requests at once already "
                "(INFERENCE_MAX_CONCURRENT_REQUESTS). Try again in a moment."
            )
        of_model = sum(run.header.model == model for run in self._open.values())
        if of_model >= self.settings.max_concurrent_per_model:
            raise ModelBusyError(
                f"This service runs {of_model} requests for {model} at once already "
                "(INFERENCE_MAX_CONCURRENT_PER_MODEL). Try again in a moment."
            )

    async def _abandon(self, run: Run) -> None:
        """End a run that nobody will read."""
        try:
            await run.settle_unread()
        except redis.RedisError as error:
            logger.warning("run %s could not be stopped: %s", run.header.id, error)
        finally:
            self._open.pop(run.header.id, None)
            await run.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` in a task that no client's leaving cancels."""
        task = asyncio.create_task(work)
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return task

    async def _remember(self, header: RunHeader) -> None:
        settings = self.settings
        ttl = settings.queue_timeout_seconds + settings.request_timeout_seconds
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.hset(
            keys.run(header.id),
            mapping={
                "user_id": header.user_id,
                "kind": header.kind,
                "model": header.model,
                "version_key": header.version_key,
                "created": header.created_unix_seconds,
                "choices": header.choices,
                "choices_per_prompt": header.choices_per_prompt,
                "include_usage": int(header.include_usage),
                "with_logprobs": int(header.with_logprobs),
                "call_syntax": header.call_syntax,
                "deprecation": header.deprecation,
            },
        )
        pipeline.expire(keys.run(header.id), int(ttl) + ITEM_SLACK_SECONDS)
        await pipeline.execute()

    async def _forget(self, header: RunHeader) -> None:
        """Delete an embedding's stream: megabytes that nobody reads again."""
        names = [keys.stream(item_id) for item_id in header.item_ids]
        with contextlib.suppress(redis.RedisError):  # it expires by itself
            await self.redis.delete(keys.run(header.id), *names)

    async def _end(self, run: Run, principal: Principal, end_user: str) -> None:
        error: str = ""
        try:
            await run.settle()
        except (TimeoutError, InferenceError, redis.RedisError) as reason:
            error = f"{type(reason).__name__}: {reason}"
            logger.warning("run %s did not settle: %s", run.header.id, error)
        finally:
            self._open.pop(run.header.id, None)
            await run.close()
        if run.header.kind == "embedding":
            await self._forget(run.header)
        record = record_of(run, principal, end_user)
        if error and not record.error_code:
            record = replace(record, outcome="failed", error_code="unsettled")
        try:
            await in_database(record_run, record)
        except Exception as reason:
            # The answer is out already; a missing record must not look like a failed request.
            logger.error("run %s could not be recorded: %s %s", run.header.id, record, reason)


def cache_salt(principal: Principal, sharing: str) -> str:
    """What sets apart the prompts of callers that may not share them, as vLLM's ``cache_salt``.

    Args:
        principal: who asks.
        sharing: ``key``, ``user`` or ``all``.
    """
    if sharing == "all":
        return ""
    if sharing == "key" and principal.key_id is not None:
        return f"key:{principal.key_id}"
    return f"user:{principal.user_id}"


def _with_seed(sampling: SamplingParameters, seed: int) -> SamplingParameters:
    return msgspec.structs.replace(sampling, seed=seed % SEEDS)


_service: InferenceService | None = None
_service_loop: asyncio.AbstractEventLoop | None = None


def inference_service() -> InferenceService:
    """The service of this process and event loop, made on first use."""
    global _service, _service_loop
    loop = asyncio.get_running_loop()
    if _service is None or _service_loop is not loop:
        _service = InferenceService(inference_settings(), django_settings.REDIS_URL)
        _service_loop = loop
    return _service
