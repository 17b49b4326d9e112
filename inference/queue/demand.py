"""The demand for versions: read by the controller, and answered to the requests that wait."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from math import inf
from typing import Any

import msgspec
from redis import Redis

from inference.messages import Failed, Usage, failed_parts
from inference.queue import keys
from inference.queue.scripts import script
from models_registry.fleet.views import Demand, HostFacts

# A controller that is gone can load nothing, so its announcements expire.
ANNOUNCED_SECONDS = 10


class Refused(StrEnum):
    """Waiting requests to refuse: all, those without output yet, or the late ones of these."""

    ALL = "all"
    FRESH = "fresh"
    LATE = "late"


class DemandReader:
    def __init__(self, redis: Redis, stream_ttl_seconds: int) -> None:
        self._redis = redis
        self._stream_ttl_seconds = stream_ttl_seconds
        self._demand = redis.register_script(script("demand"))
        self._refuse = redis.register_script(script("refuse"))

    def read(
        self,
        versions: Sequence[str],
        hosts: Mapping[str, HostFacts],
        foreseen: Collection[str] = (),
    ) -> tuple[dict[str, Demand], dict[str, HostFacts]]:
        """The demand by version key, and the completed facts of hosts by launch id, at one moment.

        A version without a record of its use counts as used now, since Redis may have lost the
        record; a ``foreseen`` version counts as never used.
        """
        arguments: list[Any] = [len(versions), *versions, *hosts]
        needed = self._needed()
        answers: Any = self._demand([keys.USED, keys.KEEP_ALIVE], arguments)
        demand = {}
        for key, (queued, priority, *seconds, keep_alive) in zip(versions, answers[0], strict=True):
            oldest, urgency, idle = map(float, seconds)
            if idle < 0:
                idle = inf if key in foreseen else 0.0
            wish = float(keep_alive) if keep_alive else None
            phases = needed.get(key, inf)
            demand[key] = Demand(queued, priority, oldest, urgency, idle, wish, phases)
        loaded = {}
        for (launch, host), answer in zip(hosts.items(), answers[1], strict=True):
            busy, held, serving, resident, device, notice, served = answer
            loaded[launch] = replace(
                host,
                busy=busy,
                private_bytes=int(held) if int(held) >= 0 else None,
                is_serving=host.is_alive and bool(serving),
                resident_bytes=int(resident) if resident else None,
                device=device.decode(),
                notice=notice.decode(),
                has_served=bool(served),
            )
        return demand, loaded

    def _needed(self) -> dict[str, float]:
        """Phases until a run of several models calls a version, by version key."""
        needed: dict[str, float] = {}
        now, _ = self._redis.time()
        kept: Any = self._redis.hgetall(keys.NEEDED)
        for item_id, value in kept.items():
            until, _, phases = value.partition(b" ")
            if float(until) < now:
                self._redis.hdel(keys.NEEDED, item_id)
                continue
            for key, count in msgspec.json.decode(phases, type=dict[str, int]).items():
                needed[key] = min(count, needed.get(key, inf))
        return needed

    def refuse(self, version_key: str, failed: Failed, which: Refused) -> int:
        """End requests that wait for a version with this frame; returns how many.

        Each gets the usage that the client has seen.
        """
        beginning, rest = failed_parts(failed, Usage(0, 0))
        arguments: list[Any] = [which, beginning, self._stream_ttl_seconds, rest]
        return int(self._refuse([keys.queue(version_key)], arguments))

    def note_unused(self, version_key: str) -> None:
        """Keep the host of a version that nobody has asked for yet from counting as a use of it."""
        self._redis.hsetnx(keys.USED, version_key, "0")

    def forget_keep_alive(self, version_key: str) -> None:
        """The keep-alive of a request ends with the replica that it was for."""
        self._redis.hdel(keys.KEEP_ALIVE, version_key)

    def announce(self, loadable: Iterable[str], loading: Mapping[str, float]) -> None:
        """Tell the web processes the loadable versions, and the progress (0 to 1) of loads."""
        pipeline = self._redis.pipeline()
        pipeline.delete(keys.LOADABLE, keys.LOADING)
        # Redis has no empty sets, and "nothing can be loaded" differs from silence.
        pipeline.sadd(keys.LOADABLE, "", *loadable)
        pipeline.expire(keys.LOADABLE, ANNOUNCED_SECONDS)
        if loading:
            fractions: dict[Any, Any] = {key: f"{done:.3f}" for key, done in loading.items()}
            pipeline.hset(keys.LOADING, mapping=fractions)
            pipeline.expire(keys.LOADING, ANNOUNCED_SECONDS)
        pipeline.execute()
