"""The facts a plan is made from: nodes, versions and replicas at one moment, and the rules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from models_registry.rules.replica_state import ReplicaState

# States in which a replica holds memory, or has memory reserved.
OCCUPYING = frozenset(
    {ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.READY, ReplicaState.DRAINING}
)
# Bytes by device of a node, such as {"cpu": 1_200_000_000}.
Bytes = Mapping[str, int]


@dataclass(frozen=True)
class Placement:
    node: str
    device: str  # that the version is told to use: auto, cpu or as in cuda:0
    needs: Bytes


@dataclass(frozen=True)
class NodeView:
    name: str
    budgets: Bytes
    max_replicas: int
    is_alive: bool = True
    silence_seconds: float = math.inf  # since a node that is not alive was last seen
    overdrawn_seconds: float = 0.0  # for how long it has held more than its budgets


@dataclass(frozen=True)
class VersionView:
    """How much a version is wanted by people, programs and requests."""

    key: str
    placements: tuple[Placement, ...] = ()  # in order of preference
    is_embedding: bool = False
    pinned: bool = False
    preload_workers: int = 0  # replicas wanted by people and settings
    registered_workers: int = 0  # replicas wanted by registrations
    is_registered: bool = False  # some program has registered that it uses this version
    foreseen: bool = False  # predicted and not requested since; takes only free memory
    keep_alive_seconds: float = math.inf  # idle time until it leaves; infinite: until evicted
    queued: int = 0  # requests that wait
    priority: int = 0  # the highest of them
    oldest_wait_seconds: float = 0.0
    urgency_seconds: float = 0.0  # longest wait, with the head start of the request's priority
    idle_seconds: float = math.inf  # since its last request arrived or ran
    # Phases until a run of several models calls it; infinite: no run will.
    phases_until_use: float = math.inf
    unusable: str = ""  # why it cannot be loaded, for people

    @property
    def standing(self) -> int:
        """Number of replicas wanted in memory whether requests come or not."""
        return max(self.preload_workers, self.registered_workers, int(self.pinned))

    @property
    def is_standing_embedding(self) -> bool:
        """Whether people, settings or programs want this embedding model in memory."""
        return self.is_embedding and bool(self.standing or self.is_registered)


@dataclass(frozen=True)
class ReplicaView:
    id: int
    version: str
    node: str
    needs: Bytes = field(default_factory=dict)  # measured where it was, else foreseen
    wanted: bool = True
    on_demand: bool = False  # wanted by requests only
    state: str = ReplicaState.STOPPED
    state_age_seconds: float = 0.0  # while it loads: since its load last made progress
    is_alive: bool = False  # its process has a heartbeat
    is_dead: bool = False  # its process is known to have ended
    holds_memory: bool = False  # its process is known to run, whatever the state
    crashes: int = 0
    failure: str = ""  # why it could not be loaded or keeps dying
    load_failed: bool = False
    file_ready: bool = True
    busy: int = 0  # requests it works on
    is_serving: bool = False  # its process reports ready, whatever the state
    has_served: bool = False  # it has finished a request

    @property
    def occupies(self) -> bool:
        """Whether it holds memory or has memory reserved."""
        gone = self.is_dead and self.state != ReplicaState.STARTING
        return self.holds_memory or (self.state in OCCUPYING and not gone)

    @property
    def is_leaving(self) -> bool:
        """Whether it drains or is about to."""
        return self.state in OCCUPYING and not self.is_coming

    @property
    def is_stuck(self) -> bool:
        """Whether its row is stopped or failed while its process still runs, and perhaps hangs."""
        return self.holds_memory and self.state not in OCCUPYING

    @property
    def is_coming(self) -> bool:
        """Whether it serves or will; also when it died and its death is not noted yet."""
        return self.wanted and self.state in OCCUPYING and self.state != ReplicaState.DRAINING

    @property
    def is_loading(self) -> bool:
        return self.is_coming and self.state != ReplicaState.READY

    @property
    def is_available(self) -> bool:
        """Whether it serves requests and is not asked to leave."""
        return self.state == ReplicaState.READY and self.wanted and self.is_alive

    def is_idle(self, version: VersionView) -> bool:
        return not self.busy and not version.queued

    def idle_seconds(self, version: VersionView) -> float:
        return min(version.idle_seconds, self.state_age_seconds)


@dataclass(frozen=True)
class Rules:
    lease_seconds: float = 5.0
    minimum_dwell_seconds: float = 10.0  # a ready replica is not evicted earlier
    maximum_wait_seconds: float = 20.0  # requests that waited longer evict busy replicas too
    max_loads: int = 2  # at once on one node
    short_queue: int = 3  # predictions are preloaded while fewer requests wait in all queues
    load_stall_seconds: float = 300.0  # a load without progress for so long has failed
    drain_patience_seconds: float = 10.0  # memory of a replica that drains longer is not relied on
    drain_timeout_seconds: float = 720.0  # a replica that drains longer is killed
    node_patience_seconds: float = 30.0  # a cluster needs so long to restart

    def expects(self, node: NodeView) -> bool:
        """Whether a silent node is likely to be back in a moment."""
        return not node.is_alive and node.silence_seconds < self.node_patience_seconds

    def leaves_soon(self, replica: ReplicaView) -> bool:
        """Whether the memory of an unwanted replica is likely to be free in a moment."""
        # A ready or starting replica was told to leave just now, however old its state is.
        told_now = replica.state in (ReplicaState.READY, ReplicaState.STARTING)
        return told_now or replica.state_age_seconds < self.drain_patience_seconds
