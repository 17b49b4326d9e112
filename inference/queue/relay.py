"""The stream of a run of several models, written by the process that conducts the run.

The run looks like a generation with an owner: ``cancel.lua`` marks it, readers follow it.
"""

import secrets
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from inference.conf import InferenceSettings
from inference.messages import TERMINAL, Frame, decode_frame, encode
from inference.queue import keys
from inference.queue.scripts import script

LEASE_SECONDS: Final = 5.0
RENEW_SECONDS: Final = 0.5


class Standing(IntEnum):
    """The hold of a process on a run that it conducts."""

    LOST = 0
    HELD = 1
    STOPPING = 2


class LostRunError(Exception):
    """Another process conducts this run now."""


class Relay:
    """Appends numbered frames to the stream of one run.

    Args:
        redis: of this process.
        settings: of the service.
        item_id: of the run's only choice.

    Attributes:
        phases_until_use: by version key; the controller keeps in memory what is needed soon.
    """

    def __init__(self, redis: Redis, settings: InferenceSettings, item_id: str) -> None:
        self._redis, self._item_id = redis, item_id
        self._conductor = f"conductor-{secrets.token_hex(8)}"
        self._running_ttl = int(settings.orchestration.timeout_seconds) + 3600
        self._ended_ttl = settings.stream_ttl_seconds
        self._conduct: Any = redis.register_script(script("conduct"))
        self._relay: Any = redis.register_script(script("relay"))
        self._number = 0
        self.phases_until_use: dict[str, int] = {}

    async def take(self, *, is_new: bool) -> list[Frame] | None:
        """Conduct the run from now on.

        Returns:
            The frames that its stream has; None if another process has the run, or it has ended.
        """
        arguments = [self._conductor, LEASE_SECONDS, self._running_ttl, "1" if is_new else ""]
        if not await self._conduct(keys=[keys.item(self._item_id)], args=arguments):
            return None
        entries: Any = await self._redis.xrange(keys.stream(self._item_id))
        self._number = len(entries)
        return [decode_frame(fields[b"f"]) for _, fields in entries]

    async def write(self, frames: Sequence[Frame] = ()) -> Standing:
        """Append frames, and renew the lease.

        Raises:
            LostRunError: another process conducts the run.
        """
        is_last = bool(frames) and isinstance(frames[-1], TERMINAL)
        ttl = self._ended_ttl if is_last else self._running_ttl
        arguments: list[Any] = [self._conductor, LEASE_SECONDS, ttl, "1" if is_last else ""]
        arguments += [self._item_id, msgspec.json.encode(self.phases_until_use)]
        for frame in frames:
            self._number += 1
            arguments += [self._number, encode(frame)]
        names = [keys.item(self._item_id), keys.stream(self._item_id), keys.NEEDED]
        standing = Standing(await self._relay(keys=names, args=arguments))
        if standing is Standing.LOST:
            raise LostRunError("Another process conducts this run.")
        return standing
