"""Embeddings from vectors that were computed before: a step of ``generate``."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from caching import vectors
from inference.messages import Finished, Frame, Started, Usage, Vectors
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue.keys import host as host_key
from inference.runs.host_run import cache_salt
from inference.runs.memory_run import MemoryRun
from inference.runs.run import CacheNote, Run, header_of
from inference.runs.runtime import runtime

if TYPE_CHECKING:
    from inference.runs.generate import Generate


@asynccontextmanager
async def known_vectors(
    onward: "Generate", order: Order, principal: Principal
) -> AsyncIterator[Run]:
    """Let only those texts be computed whose vectors are not in the cache, and equal ones once.

    Where all are known, the model is not asked, and need not be in memory.
    """
    redis, dimensions = runtime().redis, order.spec.embedding_dimensions or 0
    keys = _keys(order, principal)
    known = await vectors.find(redis, keys, dimensions) if keys else None
    if known is None:
        async with onward(order, principal) as run:
            yield run
        return
    missing = {k: ids for k, ids in zip(keys, order.prompts, strict=True) if k not in known}
    nothing: list[Frame] = [Started(0), Vectors(dimensions, b"", 0), Finished("stop", Usage(0, 0))]
    rest: AbstractAsyncContextManager[Run] = (
        onward(replace(order, prompts=[*missing.values()]), principal)
        if missing
        else nullcontext(MemoryRun(header_of(order, principal), [(0, each) for each in nothing]))
    )
    async with rest as run:
        completed = _CompletedRun(run, keys, known, sum(map(len, order.prompts)))
        completed.cache = CacheNote("miss" if missing else "exact")
        yield completed
    if completed.computed:
        # After a change of the file a host may still compute with the old weights.
        condition = host_key(completed.host), "weights", order.spec.weights
        settings = runtime().settings
        limits = settings.embedding_cache_ttl_seconds, settings.embedding_cache_entries
        await vectors.keep(redis, completed.computed, *limits, condition)


def _keys(order: Order, principal: Principal) -> list[str]:
    """Keys of an order's texts in the cache; none where it may or can not be used."""
    spec, settings = order.spec, runtime().settings
    is_wanted = settings.embedding_cache_ttl_seconds and spec.limits.reuses_vectors
    if order.kind != "embedding" or not (is_wanted and spec.weights and spec.embedding_dimensions):
        return []
    # Not the device: a version's replicas may be on several, and a text goes to any of them.
    options = spec.flash_attention, spec.cache_type_k, spec.cache_type_v
    salt = cache_salt(principal, settings.prefix_sharing)
    embedder = spec.version_key, spec.weights, spec.embedding_dimensions, options, salt
    return [vectors.key_of(embedder, token_ids) for token_ids in order.prompts]


class _CompletedRun(Run):
    """The run ``rest`` of texts whose vectors are not known, with the known ones put in.

    ``computed`` and ``host`` are the vectors of ``rest`` and their maker, once they were read.
    """

    def __init__(self, rest: Run, keys: list[str], known: dict[str, bytes], tokens: int) -> None:
        super().__init__(rest.header)
        self._rest, self._keys, self._known, self._tokens = rest, keys, known, tokens
        self.computed: dict[str, bytes] = {}
        self.host = ""

    async def stop(self) -> bool:
        return await self._rest.stop()

    async def settle(self) -> None:
        await self._rest.settle()
        self.error_code = self.error_code or self._rest.error_code
        end = self._rest.choices[0]
        if (last := end.finished or end.failed) is not None:
            self.choices[0].take(end.position, self._completed(last))

    async def _receive(self, within: float | None) -> tuple[int, int, Frame] | None:
        entry = await self._rest.next(within)
        return entry and (0, self._rest.choices[0].position, self._completed(entry[1]))

    def _completed(self, frame: Frame) -> Frame:
        if isinstance(frame, Started):
            return Started(self._tokens, self._tokens - frame.prompt_tokens)
        if isinstance(frame, Vectors):
            size = 4 * frame.dimensions
            rows = (frame.data[at : at + size] for at in range(0, len(frame.data), size))
            missing = dict.fromkeys(key for key in self._keys if key not in self._known)
            self.computed, self.host = dict(zip(missing, rows, strict=True)), frame.host
            every = self._known | self.computed
            data = b"".join(every[key] for key in self._keys)
            return msgspec.structs.replace(frame, data=data, prompt_tokens=self._tokens)
        if isinstance(frame, Finished) and frame.reason == "stop":
            cached = self._tokens - frame.usage.prompt_tokens
            counts = {"prompt_tokens": self._tokens, "cached_tokens": cached}
            usage = msgspec.structs.replace(frame.usage, **counts)
            return msgspec.structs.replace(frame, usage=usage)
        return frame
