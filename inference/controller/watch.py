"""Which hosts live: by heartbeats in Redis, lock files of this machine, and what nodes say."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from inference.cluster.liveness import LivenessLock
from inference.cluster.node import present_nodes
from inference.queue import keys
from models_registry.models import Replica

logger = logging.getLogger(__name__)

# Leases are measured by Redis's wall clock; a laptop that wakes up moves it by hours.
CLOCK_JUMP_SECONDS = 1.0


@dataclass(frozen=True)
class Signs:
    """How a launch shows that it lives: heartbeat, lock file, process."""

    is_alive: bool
    is_dead: bool
    holds_memory: bool


@dataclass(frozen=True)
class Sighting:
    """What is seen at one moment.

    ``silence_seconds`` is how long each host has been silent, by launch id; ``nodes`` are those
    whose cluster takes tasks, each with the launches that are processes there;
    ``node_silence_seconds`` is for how long each of the others has not been seen.
    """

    silence_seconds: Mapping[str, float]
    nodes: Mapping[str, frozenset[str]]
    node_silence_seconds: Mapping[str, float]


class Watch:
    """The controller's eye on hosts, patient while their silence proves nothing.

    Args:
        client: Redis.
        lease_seconds: silence after which a host counts as dead.
        clock: monotonic seconds.
    """

    def __init__(
        self, client: redis.Redis, lease_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._redis = client
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._patient_until = clock() + lease_seconds
        self._redis_ahead_seconds: float | None = None
        self._looked_at = clock()
        self._silence_of_nodes: dict[str, float] = {}

    @property
    def is_patient(self) -> bool:
        """Whether silence proves no death yet."""
        return self._clock() < self._patient_until

    def note_outage(self) -> None:
        """Redis was out of reach: give nobody up before every host could renew its lease."""
        self._patient_until = self._clock() + self._lease_seconds

    def note_unchanged(self) -> None:
        """All who showed themselves at the last look still do: no silence began before now."""
        self._looked_at = self._clock()

    def look(self, node_names: Sequence[str]) -> Sighting:
        """See who shows itself now."""
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1e6
        ahead = now - self._clock()
        jumped = ahead - (self._redis_ahead_seconds or ahead) > CLOCK_JUMP_SECONDS
        self._redis_ahead_seconds = ahead
        if jumped:
            logger.warning("the clock of Redis jumped: every host gets time to renew its lease")
            self.note_outage()
        pairs: Any = self._redis.zrange(keys.HOSTS, 0, -1, withscores=True)
        silence = {launch.decode(): now - beat for launch, beat in pairs}
        nodes = present_nodes(self._redis, node_names)
        return Sighting(silence, nodes, self._node_silence(node_names, nodes))

    def _node_silence(self, names: Sequence[str], seen: Collection[str]) -> dict[str, float]:
        """Seconds since each node was last seen; what nobody watched is no silence.

        Between two looks another controller may have acted, or Redis been away, so that they count
        for a lease at most.
        """
        now = self._clock()
        watched_seconds = min(now - self._looked_at, self._lease_seconds)
        self._looked_at = now
        known = self._silence_of_nodes
        self._silence_of_nodes = {
            name: known[name] + watched_seconds if name in known and name not in seen else 0.0
            for name in names
        }
        return {
            name: seconds for name, seconds in self._silence_of_nodes.items() if name not in seen
        }

    def signs_of(self, replica: Replica, seen: Sighting, folder: Path) -> Signs:
        """How a replica's launch shows that it lives.

        A heartbeat of one that is known to be dead is withdrawn.

        Args:
            replica: its row.
            seen: of this moment.
            folder: where the hosts of this machine keep their liveness locks.
        """
        launch = str(replica.launch_id)
        lock = LivenessLock(folder, launch)
        is_dead = lock.is_abandoned()
        if is_dead and launch in seen.silence_seconds:
            self._redis.zadd(keys.HOSTS, {launch: 0})
        silence = seen.silence_seconds.get(launch, float("inf"))
        is_shown = any(launch in launches for launches in seen.nodes.values())
        return Signs(
            is_alive=not is_dead and (self.is_patient or silence < self._lease_seconds),
            is_dead=is_dead,
            holds_memory=not is_dead and (lock.is_held() or is_shown),
        )
