"""Embeddings from vectors that were computed before: a step of ``generate``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from caching import vectors
from inference.conf import InferenceSettings
from inference.errors import TemporaryResourceError
from inference.messages import Finished, Frame, Started, Usage, Vectors
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue.keys import host as host_key
from inference.runs.host_run import cache_salt
from inference.runs.memory_run import MemoryRun
from inference.runs.run import Run, header_of
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
    shared, dimensions = runtime(), order.spec.embedding_dimensions or 0
    keys = keys_of(order, principal, shared.settings)
    texts = dict(zip(keys, order.prompts, strict=False))
    known = await vectors.find(shared.redis, [*texts], dimensions) if keys else None
    if known is None:
        async with onward(order, principal) as run:
            yield run
        return
    missing = [token_ids for key, token_ids in texts.items() if key not in known]
    nothing: list[Frame] = [Started(0), Vectors(dimensions, b"", 0), Finished("stop", Usage(0, 0))]
    rest: AbstractAsyncContextManager[Run] = (
        onward(replace(order, prompts=missing), principal)
        if missing
        else nullcontext(MemoryRun(header_of(order, principal), [(0, each) for each in nothing]))
    )
    async with rest as run:
        completed = CompletedRun(run, keys, known, sum(map(len, order.prompts)))
        completed.tier = "" if missing else "exact"
        yield completed
    if completed.computed:
        # After a change of the file a host may still compute with the old weights.
        condition = host_key(completed.host), "weights", order.spec.weights
        settings = shared.settings
        limits = settings.embedding_cache_ttl_seconds, settings.embedding_cache_entries
        await vectors.keep(shared.redis, completed.computed, *limits, condition)


def keys_of(order: Order, principal: Principal, settings: InferenceSettings) -> list[str]:
    """Keys of an order's texts in the cache; none where it may or can not be used."""
    spec = order.spec
    is_wanted = bool(settings.embedding_cache_ttl_seconds and spec.limits.reuses_vectors)
    is_possible = bool(order.kind == "embedding" and spec.weights and spec.embedding_dimensions)
    if not (is_wanted and is_possible):
        return []
    # Not the device: a version's replicas may be on several, and a text goes to any of them.
    options = spec.flash_attention, spec.cache_type_k, spec.cache_type_v
    salt = cache_salt(principal, settings.prefix_sharing)
    embedder = spec.version_key, spec.weights, spec.embedding_dimensions, options, salt
    return [vectors.key_of(embedder, token_ids) for token_ids in order.prompts]


class CompletedRun(Run):
    """The run of the texts whose vectors are not known, with the known ones put in.

    Args:
        rest: computes the missing vectors, in the order of their first keys.
        keys: of all texts.
        known: vectors by key.
        prompt_tokens: of all texts.

    Attributes:
        computed, host: the vectors of ``rest`` by key, and who made them, once they were read.
    """

    def __init__(
        self, rest: Run, keys: Sequence[str], known: Mapping[str, bytes], prompt_tokens: int
    ) -> None:
        super().__init__(rest.header)
        self._rest, self._keys, self._known, self._tokens = rest, keys, known, prompt_tokens
        self.computed: dict[str, bytes] = {}
        self.host = ""

    async def stop(self) -> bool:
        """Stop the computation."""
        return await self._rest.stop()

    async def settle(self) -> None:
        """Settle the computation, and note its end."""
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
            return self._with_known(frame)
        if isinstance(frame, Finished) and frame.reason == "stop":
            cached = self._tokens - frame.usage.prompt_tokens
            counts = {"prompt_tokens": self._tokens, "cached_tokens": cached}
            usage = msgspec.structs.replace(frame.usage, **counts)
            return msgspec.structs.replace(frame, usage=usage)
        return frame

    def _with_known(self, frame: Vectors) -> Vectors:
        size = 4 * frame.dimensions
        if any(len(row) != size for row in self._known.values()):
            error = TemporaryResourceError("The model's file is being replaced. Try again soon.")
            self.error_code = error.code
            raise error
        missing = dict.fromkeys(key for key in self._keys if key not in self._known)
        rows = (frame.data[at : at + size] for at in range(0, len(frame.data), size))
        self.computed, self.host = dict(zip(missing, rows, strict=True)), frame.host
        every = {**self._known, **self.computed}
        data = b"".join(every[key] for key in self._keys)
        return msgspec.structs.replace(frame, data=data, prompt_tokens=self._tokens)
