"""What requests want of versions: read by the controller, and told to those who wait."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis import Redis

from inference.messages import Failed, encode
from inference.queue import keys
from inference.queue.scripts import script

# A controller that is gone can load nothing: what it has said is not to be believed for longer.
OUTLOOK_SECONDS = 10


@dataclass(frozen=True)
class VersionDemand:
    """What waits for a version; times in seconds, None where there was nothing yet."""

    queued: int
    priority: int
    oldest_wait_seconds: float
    urgency_seconds: float
    idle_seconds: float | None
    keep_alive_seconds: float | None


@dataclass(frozen=True)
class HostLoad:
    """What a host shows of itself.

    It has ``claimed`` so many items and holds ``private_bytes`` beside what it began with;
    ``is_serving`` says that it is loaded, ``has_served`` that it has answered a request to its end.
    ``resident_bytes`` it held right after the load, on ``device``, with a ``notice`` for people.
    """

    claimed: int
    private_bytes: int | None
    is_serving: bool = False
    resident_bytes: int | None = None
    device: str = ""
    notice: str = ""
    has_served: bool = False


class Which(Enum):
    """Whose wait is ended: of all; of those without a part of their answer, who would begin it now;
    or of those of them whose deadline has passed."""

    ALL = "all"
    FRESH = "fresh"
    LATE = "late"


class DemandReader:
    """The controller's view of the queues."""

    def __init__(self, redis: Redis, stream_ttl_seconds: int) -> None:
        self._redis = redis
        self._stream_ttl_seconds = stream_ttl_seconds
        self._demand = redis.register_script(script("demand"))
        self._refuse = redis.register_script(script("refuse"))

    def read(
        self, versions: Sequence[str], launches: Sequence[str]
    ) -> tuple[dict[str, VersionDemand], dict[str, HostLoad]]:
        """All of it at one moment, by version key and by launch id."""
        answers: Any = self._demand(
            keys=[keys.USED, keys.KEEP_ALIVE], args=[len(versions), *versions, *launches]
        )
        wanted, hosts = answers
        demand = {
            key: VersionDemand(
                int(queued),
                int(priority),
                float(oldest),
                float(urgency),
                float(idle) if float(idle) >= 0 else None,
                float(keep_alive) if keep_alive else None,
            )
            for key, (queued, priority, oldest, urgency, idle, keep_alive) in zip(
                versions, wanted, strict=True
            )
        }
        loads = {
            launch: _host_load(*answer) for launch, answer in zip(launches, hosts, strict=True)
        }
        return demand, loads

    def refuse(self, version_key: str, failed: Failed, which: Which) -> int:
        """End what waits for a version.

        Args:
            version_key: of the version.
            failed: the last frame for each.
            which: of those that wait.

        Returns:
            How many requests were ended.
        """
        return int(
            self._refuse(
                keys=[keys.queue(version_key)],
                args=[which.value, encode(failed), self._stream_ttl_seconds],
            )
        )

    def note_unused(self, version_key: str) -> None:
        """A version is loaded before anybody asks: that its host is there is not a use of it."""
        self._redis.hsetnx(keys.USED, version_key, "0")

    def forget_keep_alive(self, version_keys: Iterable[str]) -> None:
        """What a request asked for ends with the replica it was for."""
        gone = list(version_keys)
        if gone:
            self._redis.hdel(keys.KEEP_ALIVE, *gone)

    def announce(self, loadable: Iterable[str], loading: Mapping[str, float]) -> None:
        """Tell the web processes what to expect; believed for ``OUTLOOK_SECONDS``.

        Args:
            loadable: keys of versions that are brought into memory when somebody asks for them.
            loading: how far those are that are on their way, from 0 to 1.
        """
        pipeline = self._redis.pipeline()
        pipeline.delete(keys.LOADABLE, keys.LOADING)
        # Redis has no empty sets, and that nothing can be loaded is not silence.
        pipeline.sadd(keys.LOADABLE, "", *loadable)
        pipeline.expire(keys.LOADABLE, OUTLOOK_SECONDS)
        if loading:
            fractions: dict[Any, Any] = {key: f"{done:.3f}" for key, done in loading.items()}
            pipeline.hset(keys.LOADING, mapping=fractions)
            pipeline.expire(keys.LOADING, OUTLOOK_SECONDS)
        pipeline.execute()


def _host_load(
    claimed: int,
    held: bytes,
    serving: int,
    resident: bytes,
    device: bytes,
    notice: bytes,
    served: bytes,
) -> HostLoad:
    """The answer of the script for one host; texts are empty where it has not said yet."""
    return HostLoad(
        claimed=claimed,
        private_bytes=int(held) if int(held) >= 0 else None,
        is_serving=bool(serving),
        resident_bytes=int(resident) if resident else None,
        device=device.decode(),
        notice=notice.decode(),
        has_served=bool(served),
    )
