"""The web side of the queue: enqueue and cancel."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import msgspec
from redis.asyncio import Redis

from inference.conf import InferenceSettings
from inference.errors import InvalidRequestError, ModelBusyError, ModelLoadingError
from inference.messages import Finished, RunHeader, Usage, WorkItem, encode
from inference.queue import keys
from inference.queue.cache_plan import CachePlan
from inference.queue.scripts import script

# An item outlives its own deadline and run by this, so that it is found even when late.
ITEM_SLACK_SECONDS = 600


def head_start_seconds(strategy: str, priority: int, ageing_seconds: float) -> float:
    """Seconds by which an item is treated as having come earlier than it has.

    With the strategy ``priority`` every level above low (1) is worth ``ageing_seconds`` of waiting,
    so that nothing starves; with ``fifo`` nothing overtakes.
    """
    return 0.0 if strategy == "fifo" else (priority - 1) * ageing_seconds


@dataclass(frozen=True)
class Place:
    """Where the answer to an item comes from.

    Attributes:
        tier: the cache that answers; "" for a generation of the item's own.
        stream_id: of the stream to read.
        key: of the entry in the cache, "" without one.
        age_seconds: since the entry was made.
        entries: on a hit (number, frame) of the whole stream, encoded.
        similarity: cosine of the two questions, if they differ.
    """

    tier: str
    stream_id: str
    key: str = ""
    age_seconds: float = 0.0
    entries: tuple[tuple[int, bytes], ...] = ()
    similarity: float | None = None


class Queue:
    def __init__(self, redis: Redis, settings: InferenceSettings) -> None:
        self._settings = settings
        self._enqueue: Any = redis.register_script(script("enqueue"))
        self._cancel: Any = redis.register_script(script("cancel"))

    async def enqueue(
        self,
        items: Sequence[WorkItem],
        keep_alive_seconds: float | None = None,
        header: RunHeader | None = None,
        ledger_day: int = 0,
        plans: Sequence[CachePlan | None] = (),
    ) -> list[Place]:
        """Queue items of one version and priority, all or none, unless the cache answers them.

        Args:
            items: of one run.
            keep_alive_seconds: below 0 is for ever; None leaves the value of an earlier request.
            header: of the run, to be kept as long as the items.
            ledger_day: the day to which the ledger counts the tokens that are computed.
            plans: of the items, as far as the cache may be used for them.

        Returns:
            The place of each item's answer.

        Raises:
            ModelBusyError: the version's queue has no room for all of them.
            ModelLoadingError: no living host serves the version, and none will be started.
        """
        settings = self._settings
        if len(items) > settings.max_queue_size:
            raise InvalidRequestError(
                f"The request asks for {len(items)} answers, but the queue holds at most "
                f"{settings.max_queue_size}. Ask for fewer.",
                param="n",
            )
        first = items[0]
        ttl = int(settings.queue_timeout_seconds + settings.request_timeout_seconds)
        arguments: list[Any] = [
            settings.max_queue_size,
            settings.lease_seconds,
            head_start_seconds(settings.queue_strategy, first.priority, settings.ageing_seconds),
            ttl + ITEM_SLACK_SECONDS,
            first.priority,
            "" if keep_alive_seconds is None else f"{keep_alive_seconds:g}",
            encode(header) if header else "",
            ledger_day,
        ]
        for item, plan in zip_longest(items, plans[: len(items)]):
            payload, text = encode(item), b""
            if plan is not None:
                payload = encode(msgspec.structs.replace(item, id=plan.item))
                text = msgspec.json.encode(plan)
            arguments += [item.id, payload, settings.queue_timeout_seconds, text]
        version_key = first.version_key
        named = [name(version_key) for name in (keys.queue, keys.bell, keys.ready)]
        named_header = keys.header(header.id if header else "")
        outcome: Any = await self._enqueue(
            keys=[*named, keys.LOADABLE, keys.USED, keys.KEEP_ALIVE, named_header], args=arguments
        )
        if outcome == 0:
            raise ModelBusyError(
                f"The queue of {version_key} is full ({settings.max_queue_size} waiting). "
                "Try again in a moment.",
                retry_after_ms=1000,
            )
        if outcome == -1:
            raise ModelLoadingError(
                f"{version_key} is not ready: it is loading or restarting. Try again in a moment.",
                retry_after_ms=2000,
            )
        return [_place(*found) for found in outcome]

    async def cancel(self, version_key: str, item_id: str) -> bool:
        """Stop a waiting or running item, or leave it to others; False when it had ended."""
        ended = encode(Finished("cancelled", Usage(0, 0)))
        outcome: int = await self._cancel(
            keys=[keys.queue(version_key)],
            args=[item_id, ended, self._settings.stream_ttl_seconds],
        )
        return outcome > 0


def _place(
    tier: bytes, stream_id: bytes, key: bytes, age: bytes, entries: Sequence[Any] = ()
) -> Place:
    return Place(
        tier.decode(),
        stream_id.decode(),
        key.decode(),
        float(age),
        tuple((int(number.partition(b"-")[0]), fields[1]) for number, fields in entries),
    )
