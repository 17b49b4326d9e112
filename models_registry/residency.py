"""What to do about each replica, from what is wanted and what is seen: pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# A start that no cluster has picked up for this long is announced again: the cluster may have
# died with the announcement in its hands.
START_TIMEOUT_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 30.0
# A replica that has served this long is no longer held to its earlier crashes.
CALM_SECONDS = 30.0


class Action(Enum):
    """What the controller does to a replica."""

    START = "start"
    ANNOUNCE_AGAIN = "announce again"
    DRAIN = "drain"
    NOTE_DEATH = "note death"
    NOTE_STOPPED = "note stopped"
    FORGIVE = "forgive"


@dataclass(frozen=True)
class ReplicaView:
    """A replica as the plan sees it.

    ``is_alive`` means that its process has a heartbeat, ``is_dead``
    that it is known to have ended."""

    id: int
    wanted: bool
    state: str
    state_age_seconds: float
    is_alive: bool
    is_dead: bool
    crashes: int
    file_ready: bool


def backoff_seconds(crashes: int) -> float:
    """Pause before a replica that died ``crashes`` times in a row starts again."""
    return 0.0 if crashes <= 1 else min(MAX_BACKOFF_SECONDS, 2.0 ** (crashes - 1))


def plan(replicas: Iterable[ReplicaView], lease_seconds: float) -> list[tuple[int, Action]]:
    """One action at most for each replica.

    Args:
        replicas: the fleet.
        lease_seconds: silence after which a host counts as dead.
    """
    decided = ((view.id, _decide(view, lease_seconds)) for view in replicas)
    return [(replica_id, action) for replica_id, action in decided if action is not None]


def _decide(view: ReplicaView, lease_seconds: float) -> Action | None:
    match view.state:
        case "stopped":
            return Action.START if view.wanted and view.file_ready else None
        case "failed":
            rested = view.state_age_seconds >= backoff_seconds(view.crashes)
            if not view.wanted:
                return Action.NOTE_STOPPED
            return Action.START if rested and view.file_ready else None
        case "starting":
            if not view.wanted:
                return Action.NOTE_STOPPED
            late = view.state_age_seconds >= START_TIMEOUT_SECONDS
            return Action.ANNOUNCE_AGAIN if late and not view.is_alive else None
    if not view.is_alive:
        # Without certainty its first heartbeat may still be on the way.
        gone = view.is_dead or view.state_age_seconds >= lease_seconds
        return Action.NOTE_DEATH if gone else None
    if not view.wanted:
        return Action.DRAIN
    calm = view.state == "ready" and view.state_age_seconds >= CALM_SECONDS
    return Action.FORGIVE if calm and view.crashes else None
