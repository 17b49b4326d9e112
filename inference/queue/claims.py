"""The host's side of the queue: claim, publish, heartbeat."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
from redis import Redis

from caching.answers import FORGET_FUNCTION
from inference.errors import InternalError, QueueTimeoutError
from inference.messages import (
    TERMINAL,
    Control,
    Failed,
    Finished,
    Frame,
    Generation,
    Usage,
    Vectors,
    WorkItem,
    decode_control,
    decode_work,
    encode,
    failed_parts,
    run_id_of,
)
from inference.queue import keys
from inference.queue.scripts import DirectScript, script

logger = logging.getLogger(__name__)

NOTHING, PROVEN, LAST, SERVED, KEPT, CUT = 0, 1, 2, 3, 4, 5

EXPIRED = Failed(
    QueueTimeoutError.default_code,
    "The request waited longer than the queue timeout and was not started. Try again later.",
    # The requests before it in the queue are still at work.
    retry_after_seconds=10.0,
    usage=Usage(0, 0),
)
UNREADABLE = Failed(
    InternalError.default_code, "The request was stored in a form that this version cannot read."
)


class FencedError(Exception):
    """This host was declared dead; others do its work, so it must end."""


@dataclass(frozen=True)
class Numbered:
    """A frame with its place in its stream; ``mark`` says what becomes of the claim."""

    id: str
    number: int
    frame: Frame
    mark: int = NOTHING


@dataclass(frozen=True)
class Pending:
    messages: int
    items: int


class Requeue:
    """Puts an item back at its old place; one that was cancelled meanwhile ends instead."""

    def __init__(self, redis: Redis) -> None:
        self._requeue = redis.register_script(script("requeue"))

    def __call__(self, item: WorkItem, launch_id: str, stream_ttl_seconds: int) -> None:
        usage = Usage(0, 0)
        if isinstance(item, Generation) and item.emitted_frames:
            # The client has these tokens, even if the item is cancelled and never runs again.
            usage = Usage(len(item.prompt_token_ids), len(item.emitted_token_ids))
        self._requeue(
            keys=[
                keys.queue(item.version_key),
                keys.bell(item.version_key),
                keys.item(item.id),
                keys.claims(launch_id),
                keys.stream(item.id),
            ],
            args=[
                item.id,
                encode(item),
                item.crashes,
                item.emitted_frames + 1,
                encode(Finished("cancelled", usage)),
                stream_ttl_seconds,
                failed_parts(UNREADABLE, usage)[1],
            ],
        )


class HostClaims:
    """One host's view of Redis; every write checks that the host still holds its lease."""

    def __init__(self, redis: Redis, launch_id: str, version_key: str) -> None:
        self._redis = redis
        self._launch_id = launch_id
        self._version_key = version_key
        self._fenced = keys.fenced(launch_id)
        self._claims = keys.claims(launch_id)
        self._control = keys.control(launch_id)
        self._ready = keys.ready(version_key)
        self._claim = redis.register_script(script("claim"))
        self._queue = keys.queue(version_key)
        self._publish = DirectScript(redis, FORGET_FUNCTION + script("publish"))
        self._heartbeat = redis.register_script(script("heartbeat"))
        self._reassert = redis.register_script(script("reassert"))
        self._requeue = Requeue(redis)

    def heartbeat(self, *, ready: bool, ttl_seconds: int, facts: dict[str, Any]) -> None:
        """Renew the lease and show the host's live figures. Raises ``FencedError``."""
        fields = {"version_key": self._version_key, **facts}
        alive = self._heartbeat(
            keys=[keys.HOSTS, self._ready, keys.host(self._launch_id), self._fenced],
            args=[self._launch_id, int(ready), ttl_seconds, *chain(*fields.items())],
        )
        if not alive:
            raise FencedError(self._launch_id)

    def claim(
        self, max_items: int, may_take_suspect: bool, above_priority: int = -1
    ) -> tuple[list[tuple[WorkItem, float]], list[tuple[str, Failed]]]:
        """Take items above a priority, at most a fair share of new ones. Raises ``FencedError``.

        Returns:
            (item, seconds it waited) of each, and (id, last frame) of late or unreadable items,
            which stay claimed until that frame is published.
        """
        answer = self._claim(
            keys=[self._queue, self._claims, self._fenced, self._ready],
            args=[max_items, self._launch_id, int(may_take_suspect), above_priority],
        )
        if answer is None:
            raise FencedError(self._launch_id)
        claimed, expired = answer
        items, ended = [], [(item_id.decode(), EXPIRED) for item_id in expired]
        for item_id, payload, waited in claimed:
            try:
                items.append((decode_work(payload), float(waited)))
            except msgspec.DecodeError as error:
                run = {"run_id": run_id_of(item_id.decode())}
                logger.error("generation %s cannot be read: %s", item_id.decode(), error, extra=run)
                ended.append((item_id.decode(), UNREADABLE))
        return items, ended

    def reassert(self, proof: Mapping[str, bool]) -> None:
        """Write claims (by id: whether proven) anew after an outage. Raises ``FencedError``."""
        arguments = [value for item_id, proven in proof.items() for value in (item_id, int(proven))]
        if arguments and not self._reassert(keys=[self._claims, self._fenced], args=arguments):
            raise FencedError(self._launch_id)

    def give_back_unknown(self, known: Collection[str], stream_ttl_seconds: int) -> list[str]:
        """Requeue, and return, claims that are not ``known``: the reply to their call was lost."""
        claimed: Any = self._redis.hkeys(self._claims)
        unknown = [item_id for raw in claimed if (item_id := raw.decode()) not in known]
        for item_id in unknown:
            payload: Any = self._redis.hget(keys.item(item_id), "payload")
            if payload is None:
                self._redis.hdel(self._claims, item_id)
            else:
                self._requeue(decode_work(payload), self._launch_id, stream_ttl_seconds)
        return unknown

    def publish(self, frames: Sequence[Numbered], ttl_seconds: int) -> Pending:
        """Append frames, if any, to their streams, and count what waits. Raises ``FencedError``."""
        arguments: list[Any] = [ttl_seconds]
        for entry in frames:
            frame = entry.frame
            if isinstance(frame, Vectors):
                frame = msgspec.structs.replace(frame, host=self._launch_id)
            usage = frame.usage if isinstance(frame, TERMINAL) else None
            computed = usage and (usage.computed_prompt_tokens, usage.computed_completion_tokens)
            arguments += [entry.id, entry.number, encode(frame), entry.mark, *(computed or (0, 0))]
        names = [self._claims, self._fenced, self._control, self._queue]
        pending = self._publish(names, arguments)
        if pending is None:
            raise FencedError(self._launch_id)
        return Pending(*pending)

    def controls(self) -> list[Control]:
        messages: Any = self._redis.lpop(self._control, 100)
        return [decode_control(message) for message in messages or []]

    def wait(self, timeout_seconds: float) -> list[Control] | None:
        """Sleep until there may be work or a message; None after ``timeout_seconds`` of nothing."""
        names = [self._control, keys.bell(self._version_key)]
        answer: Any = self._redis.blpop(names, timeout=timeout_seconds)
        if answer is None:
            return None
        if answer[0].decode() != self._control:
            return []
        return [decode_control(answer[1]), *self.controls()]

    def abandon(self, *, crashed: bool) -> None:
        """Let the next sweep take back the claims; if ``crashed``, one of them may be to blame."""
        pipeline = self._redis.pipeline()
        if not crashed:
            pipeline.hset(keys.host(self._launch_id), "left", 1)
        pipeline.zadd(keys.HOSTS, {self._launch_id: 0})
        pipeline.execute()

    def leave(self) -> None:
        pipeline = self._redis.pipeline()
        pipeline.zrem(keys.HOSTS, self._launch_id)
        pipeline.zrem(self._ready, self._launch_id)
        pipeline.delete(keys.host(self._launch_id), self._control, self._claims)
        pipeline.execute()
