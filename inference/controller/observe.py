"""The facts that the controller plans by: the life signs of hosts, and the fleet at one moment."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from inference.cluster.liveness import LivenessLock
from inference.cluster.node import present_nodes
from inference.queue import keys
from models_registry.fleet.snapshot import Snapshot
from models_registry.fleet.views import HostFacts
from models_registry.models import Replica
from models_registry.plan.facts import NodeView, ReplicaView, VersionView

logger = logging.getLogger(__name__)

# Leases are measured by Redis's wall clock; a laptop that wakes up moves it by hours.
CLOCK_JUMP_SECONDS = 1.0


@dataclass(frozen=True)
class Observation:
    """The fleet at one moment, less deleted versions; ``rows`` by id, ``hosts`` by launch id."""

    snapshot: Snapshot
    nodes: list[NodeView]
    versions: dict[str, VersionView]
    replicas: list[ReplicaView]
    rows: dict[int, Replica]
    hosts: Mapping[str, HostFacts]

    def host_of(self, row: Replica) -> HostFacts:
        return self.hosts[str(row.launch_id)]


@dataclass(frozen=True)
class Heartbeats:
    """``nodes`` show themselves, each with the launches that run on it; the others are silent."""

    launch_silence_seconds: Mapping[str, float]
    nodes: Mapping[str, frozenset[str]]
    node_silence_seconds: Mapping[str, float]


class HostMonitor:
    """Tells living hosts from dead ones, with a grace period while silence proves nothing."""

    def __init__(
        self, client: redis.Redis, lease_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._redis = client
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._grace_ends_at = clock() + lease_seconds
        self._redis_ahead_seconds: float | None = None
        self._read_at = clock()
        self._silence_of_nodes: dict[str, float] = {}

    @property
    def in_grace_period(self) -> bool:
        return self._clock() < self._grace_ends_at

    def begin_grace_period(self) -> None:
        """Redis was out of reach: give every host the time to renew its lease."""
        self._grace_ends_at = self._clock() + self._lease_seconds

    def note_unchanged(self) -> None:
        """Nothing changed since the last read, so nodes count as seen until now."""
        self._read_at = self._clock()

    def read(self, node_names: Sequence[str]) -> Heartbeats:
        seconds, microseconds = self._redis.time()
        now = seconds + microseconds / 1e6
        ahead = now - self._clock()
        jumped = ahead - (self._redis_ahead_seconds or ahead) > CLOCK_JUMP_SECONDS
        self._redis_ahead_seconds = ahead
        if jumped:
            logger.warning("the clock of Redis jumped: every host gets time to renew its lease")
            self.begin_grace_period()
        pairs: Any = self._redis.zrange(keys.HOSTS, 0, -1, withscores=True)
        silence = {launch.decode(): now - beat for launch, beat in pairs}
        nodes = present_nodes(self._redis, node_names)
        read_at = self._clock()
        # Between two reads another controller may have acted, or Redis been away.
        watched_seconds = min(read_at - self._read_at, self._lease_seconds)
        self._read_at = read_at
        known = self._silence_of_nodes
        self._silence_of_nodes = {
            name: known[name] + watched_seconds if name in known and name not in nodes else 0.0
            for name in node_names
        }
        silent = {
            name: seconds for name, seconds in self._silence_of_nodes.items() if name not in nodes
        }
        return Heartbeats(silence, nodes, silent)

    def host_facts(self, launch: str, heartbeats: Heartbeats, folder: Path) -> HostFacts:
        """Whether a launch lives; the heartbeat of a host that is known to be dead is withdrawn."""
        lock = LivenessLock(folder, launch)
        is_dead = lock.is_abandoned()
        if is_dead and launch in heartbeats.launch_silence_seconds:
            self._redis.zadd(keys.HOSTS, {launch: 0})
        silence = heartbeats.launch_silence_seconds.get(launch, float("inf"))
        is_shown = any(launch in launches for launches in heartbeats.nodes.values())
        return HostFacts(
            is_alive=not is_dead and (self.in_grace_period or silence < self._lease_seconds),
            is_dead=is_dead,
            holds_memory=not is_dead and (lock.is_held() or is_shown),
        )
