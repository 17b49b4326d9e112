"""What the plan is told: versions, replicas and nodes as they are seen at one moment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# States in which a replica's memory is taken, or promised to it.
OCCUPYING = frozenset({"starting", "loading", "ready", "draining"})
Bytes = Mapping[str, int]
"""Bytes by device of a node, such as ``{"cpu": 1_200_000_000}``."""


@dataclass(frozen=True)
class Placement:
    """A way to put a version into memory: a node, the device it is told to use, what it takes."""

    node: str
    device: str
    needs: Bytes


@dataclass(frozen=True)
class NodeView:
    """A machine: what each of its devices may hold, and how many hosts it can run.

    One that is not alive has not shown itself for ``silence_seconds``. ``overdrawn_seconds`` is for
    how long it has held more than it may, though all left that could.
    """

    name: str
    budgets: Bytes
    max_replicas: int
    is_alive: bool = True
    silence_seconds: float = math.inf
    overdrawn_seconds: float = 0.0


@dataclass(frozen=True)
class VersionView:
    """What is wanted of a version, by people and by requests.

    ``placements`` are in order of preference. ``queued`` requests wait for it, the longest of
    them for ``oldest_wait_seconds``; ``urgency_seconds`` is the wait of the most urgent one with
    the head start of its priority. ``idle_seconds`` have passed since its last request, and since
    its replicas last ran one. ``preload_workers`` replicas are wanted by people and settings,
    ``registered_workers`` by programs; one that ``is_registered`` some program needs. A version
    that none of these want leaves memory after ``keep_alive_seconds`` without work; infinity lets
    it stay until its room is needed. With ``foreseen`` it is expected to be asked for, has not been
    yet, and takes what room is free.
    """

    key: str
    placements: tuple[Placement, ...] = ()
    is_embedding: bool = False
    pinned: bool = False
    preload_workers: int = 0
    registered_workers: int = 0
    is_registered: bool = False
    foreseen: bool = False
    keep_alive_seconds: float = math.inf
    queued: int = 0
    priority: int = 0
    oldest_wait_seconds: float = 0.0
    urgency_seconds: float = 0.0
    idle_seconds: float = math.inf
    unusable: str = ""


@dataclass(frozen=True)
class ReplicaView:
    """A replica as it is seen.

    ``wanted`` is the wish of its row; ``on_demand`` says that only requests are behind it.
    ``is_alive`` means that its process has a heartbeat, ``is_dead`` that it is known to have ended;
    ``holds_memory`` that a process of it is known to run whatever its row says. ``busy`` counts the
    requests it works on; ``has_served`` says that it has brought one to its end; ``is_serving``
    that its launch shows itself ready, whatever its row says. ``needs`` is what it takes on its
    node, measured where it was.
    ``failure`` is why it could not be loaded (``load_failed``) or keeps dying, "" otherwise.
    ``state_age_seconds`` has passed since it came into its state, or, while it is being loaded,
    since its load was last seen to move.
    """

    id: int
    version: str
    node: str
    device: str = "auto"
    needs: Bytes = field(default_factory=dict)
    wanted: bool = True
    on_demand: bool = False
    state: str = "stopped"
    state_age_seconds: float = 0.0
    is_alive: bool = False
    is_dead: bool = False
    holds_memory: bool = False
    crashes: int = 0
    failure: str = ""
    load_failed: bool = False
    file_ready: bool = True
    busy: int = 0
    is_serving: bool = False
    has_served: bool = False

    @property
    def occupies(self) -> bool:
        """Its memory is taken, promised, or not given back yet."""
        gone = self.is_dead and self.state != "starting"
        return self.holds_memory or (self.state in OCCUPYING and not gone)

    @property
    def is_leaving(self) -> bool:
        """It takes no new work, or will not in a moment."""
        return self.state == "draining" or (self.state in OCCUPYING and not self.wanted)

    @property
    def is_stuck(self) -> bool:
        """Its row has given it up, but a process of it has not ended: it ends now, or hangs."""
        return self.holds_memory and self.state not in OCCUPYING

    @property
    def is_coming(self) -> bool:
        """It serves, or is on its way to; also one that has died a moment ago."""
        return self.wanted and self.state in OCCUPYING - {"draining"}

    @property
    def is_loading(self) -> bool:
        """It takes one of the places for loads."""
        return self.is_coming and self.state != "ready"


@dataclass(frozen=True)
class Rules:
    """The times that the plan goes by, in seconds.

    An idle replica is not put out before it was ready for ``minimum_dwell_seconds``; a busy one
    only for requests that have waited ``maximum_wait_seconds``. At most ``max_loads`` replicas
    are brought in at once on one node; one whose load has not moved for ``load_stall_seconds``
    has failed. Room is foreseen from a replica that is leaving for ``drain_patience_seconds``;
    if it takes longer, others may have to go as well. What it works on may go on for
    ``drain_timeout_seconds``: then its process is killed. What is only foreseen comes while fewer
    than ``short_queue`` requests wait in all queues. A node that falls silent is expected back for
    ``node_patience_seconds``, which a cluster needs to stop and start again.
    """

    lease_seconds: float = 5.0
    minimum_dwell_seconds: float = 10.0
    maximum_wait_seconds: float = 20.0
    max_loads: int = 2
    short_queue: int = 3
    load_stall_seconds: float = 300.0
    drain_patience_seconds: float = 10.0
    drain_timeout_seconds: float = 720.0
    node_patience_seconds: float = 30.0

    def expects(self, node: NodeView) -> bool:
        """Whether a node that does not show itself is likely to be back in a moment."""
        return not node.is_alive and node.silence_seconds < self.node_patience_seconds

    def leaves_soon(self, replica: ReplicaView) -> bool:
        """Whether the memory of one that is not to stay can be expected back in a moment."""
        # The age of these states is not that of the wish to leave, which is a moment old.
        told_now = replica.state in ("ready", "starting")
        return told_now or replica.state_age_seconds < self.drain_patience_seconds
