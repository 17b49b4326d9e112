"""Give back the claims of dead hosts."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from redis import Redis

from inference.errors import HostLostError, PoisonRequestError
from inference.messages import (
    TERMINAL,
    Delta,
    Failed,
    Frame,
    Generation,
    Started,
    Usage,
    WorkItem,
    decode_frame,
    decode_work,
    encode,
    run_id_of,
)
from inference.queue import keys
from inference.queue.blame import POISON_CRASHES, Claim, judge
from inference.queue.claims import UNREADABLE, Requeue
from inference.queue.scripts import script

logger = logging.getLogger(__name__)

# Under this lease only the heartbeat 0, which stands for a known death, is too old.
ABANDONED_SECONDS = 1e9
# Redis remembers a fence for longer than a fenced process can go on running.
FENCED_SECONDS = 86_400
_HOST_DIED = Failed(HostLostError.default_code, "The process that ran it died.")
_FRAMES_LOST = Failed(HostLostError.default_code, "Its host died, and Redis lost its tokens.")
_POISON = Failed(
    PoisonRequestError.default_code,
    "This request made the model process crash twice and is not tried again.",
)


def fence(redis: Redis, launch_id: str) -> bool:
    """Bar a host from writing: the next sweep returns its claims, and its node kills it.

    False when it was fenced before.
    """
    if not redis.set(keys.fenced(launch_id), 1, ex=FENCED_SECONDS, nx=True):
        return False
    redis.zadd(keys.HOSTS, {launch_id: 0})
    return True


def usage_of(frames: Sequence[Frame]) -> Usage | None:
    """The tokens that the client has from these frames; None when their beginning is missing."""
    if not frames:
        return Usage(0, 0)
    first = frames[0]
    if not isinstance(first, Started):
        return None
    tokens = sum(len(frame.token_ids) for frame in frames if isinstance(frame, Delta))
    return Usage(first.prompt_tokens, tokens, first.cached_tokens)


class Sweep:
    """Fences hosts whose lease ran out and requeues their generations with the tokens they had.

    Safe to run again after dying half-way: a dead host stays in a set until all it had is back.
    """

    def __init__(self, redis: Redis, lease_seconds: float, stream_ttl_seconds: int) -> None:
        self._redis = redis
        self._lease_seconds = lease_seconds
        self._stream_ttl_seconds = stream_ttl_seconds
        self._bury = redis.register_script(script("bury"))
        self._requeue = Requeue(redis)

    def run(self, *, only_abandoned: bool = False) -> list[str]:
        """Fence silent hosts and return their claims to the queues; returns the hosts' launch ids.

        With ``only_abandoned``, only hosts whose heartbeat was set to 0, since they are known dead.
        """
        lease_seconds = ABANDONED_SECONDS if only_abandoned else self._lease_seconds
        lost = self._bury(keys=[keys.HOSTS, keys.DEAD], args=[lease_seconds, FENCED_SECONDS])
        dead: Any = self._redis.smembers(keys.DEAD)
        for launch in dead:
            self._give_back(launch.decode())
        return [launch.decode() for launch in lost]

    def _give_back(self, launch_id: str) -> None:
        items, claims = self._claimed(launch_id)
        left: Any = self._redis.hget(keys.host(launch_id), "left")
        counts = judge(claims) if left is None else {id_: claims[id_].crashes for id_ in claims}
        for item_id, crashes in counts.items():
            if crashes >= POISON_CRASHES:
                run = {"run_id": run_id_of(item_id)}
                logger.error(
                    "generation %s killed its host twice: failed as poison", item_id, extra=run
                )
                self._fail(item_id, _POISON)
            else:
                self._return(launch_id, items[item_id], crashes)
        pipeline = self._redis.pipeline()
        pipeline.srem(keys.DEAD, launch_id)
        pipeline.delete(keys.claims(launch_id), keys.control(launch_id), keys.host(launch_id))
        pipeline.execute()

    def _claimed(self, launch_id: str) -> tuple[dict[str, WorkItem], dict[str, Claim]]:
        items: dict[str, WorkItem] = {}
        claims: dict[str, Claim] = {}
        claimed: Any = self._redis.hgetall(keys.claims(launch_id))
        for raw_id, mark in claimed.items():
            item_id = raw_id.decode()
            fields: Any = self._redis.hmget(keys.item(item_id), "payload", "owner")
            payload, owner = fields
            if payload is None:
                self._fail(item_id, _HOST_DIED)
                continue
            if owner != launch_id.encode():
                continue  # it waits, or another host has it: the claim is out of date
            try:
                item = decode_work(payload)
            except msgspec.DecodeError as error:
                run = {"run_id": run_id_of(item_id)}
                logger.error("generation %s cannot be read: %s", item_id, error, extra=run)
                self._fail(item_id, UNREADABLE)
                continue
            items[item_id] = item
            claims[item_id] = Claim(item.crashes, proven=mark == b"1")
        return items, claims

    def _return(self, launch_id: str, item: WorkItem, crashes: int) -> None:
        last_number, frames = self._frames(item.id)
        if frames and isinstance(frames[-1], TERMINAL):
            return
        if last_number != len(frames):
            self._fail(item.id, _FRAMES_LOST)
            return
        changes: dict[str, Any] = {"crashes": crashes, "emitted_frames": last_number}
        if isinstance(item, Generation):
            changes["emitted_token_ids"] = [
                token_id
                for frame in frames
                if isinstance(frame, Delta)
                for token_id in frame.token_ids
            ]
        self._requeue(msgspec.structs.replace(item, **changes), launch_id, self._stream_ttl_seconds)

    def _frames(self, item_id: str) -> tuple[int, list[Frame]]:
        """The number of the last frame of a stream, or 0, and all its frames."""
        entries: Any = self._redis.xrange(keys.stream(item_id))
        last_number = int(entries[-1][0].split(b"-")[0]) if entries else 0
        return last_number, [decode_frame(fields[b"f"]) for _, fields in entries]

    def _fail(self, item_id: str, failed: Failed) -> None:
        last_number, frames = self._frames(item_id)
        pipeline = self._redis.pipeline()
        if not (frames and isinstance(frames[-1], TERMINAL)):
            failed = msgspec.structs.replace(failed, usage=usage_of(frames))
            pipeline.xadd(keys.stream(item_id), {"f": encode(failed)}, id=f"{last_number + 1}-0")
        pipeline.expire(keys.stream(item_id), self._stream_ttl_seconds)
        pipeline.delete(keys.item(item_id))
        pipeline.execute()
