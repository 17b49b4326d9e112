"""The next action for a single replica, which follows from its state alone: pure."""

from enum import Enum

from models_registry.plan.facts import ReplicaView, Rules
from models_registry.rules.replica_state import ReplicaState

# A start that no cluster has picked up for so long is announced again: the cluster may have died
# with the announcement.
START_TIMEOUT_SECONDS = 10.0
# Earlier crashes of a replica are forgiven when it has been ready for so long and has finished a
# request, or has drained in order after that.
CALM_SECONDS = 10.0
# Without a request being ready proves little: the requests may be what kills it.
CALM_UNUSED_SECONDS = 600.0
# So many launches in a row that ended badly make a crash loop.
CRASH_LOOP = 3
CRASH_LOOP_REST_SECONDS = 4.0
MAX_BACKOFF_SECONDS = 300.0


class Action(Enum):
    ANNOUNCE_AGAIN = "announce again"
    DRAIN = "drain"
    KILL = "kill"
    FAIL_LOAD = "fail load"
    NOTE_DEATH = "note death"
    NOTE_STOPPED = "note stopped"
    NOTE_READY = "note ready"
    FORGIVE = "forgive"


def backoff_seconds(crashes: int) -> float:
    """Pause before the next start after ``crashes`` launches in a row that ended badly."""
    if crashes < CRASH_LOOP:
        return 0.0 if crashes <= 1 else 2.0  # none after the first: requests wait
    # Without the bound the power would overflow after a thousand crashes.
    doublings = min(crashes - CRASH_LOOP, 10)
    return min(MAX_BACKOFF_SECONDS, CRASH_LOOP_REST_SECONDS * 2.0**doublings)


def rest_seconds(view: ReplicaView) -> float:
    """Time until a failed replica may start again; 0 when it may now."""
    if view.state != ReplicaState.FAILED:
        return 0.0
    crashes = max(view.crashes, 2) if view.load_failed else view.crashes
    return max(0.0, backoff_seconds(crashes) - view.state_age_seconds)


def may_start(view: ReplicaView) -> bool:
    """Whether a replica is wanted, absent, and lacks nothing but memory."""
    absent = view.state in (ReplicaState.STOPPED, ReplicaState.FAILED) and not view.holds_memory
    return view.wanted and absent and view.file_ready and rest_seconds(view) == 0


def next_action(view: ReplicaView, rules: Rules, node_is_alive: bool) -> Action | None:
    """The action that is due for a replica, apart from its start."""
    age = view.state_age_seconds
    if view.is_stuck:
        return Action.KILL if age >= rules.drain_patience_seconds else None
    if view.state in (ReplicaState.STOPPED, ReplicaState.FAILED):
        # A failure with a reason stays visible until the next launch, load or unload.
        is_over = view.state == ReplicaState.FAILED and not view.wanted and not view.failure
        return Action.NOTE_STOPPED if is_over else None
    is_on_its_way = view.state in (ReplicaState.STARTING, ReplicaState.LOADING)
    if is_on_its_way and view.is_alive and view.is_serving:
        # The host could not write it itself, and only a ready replica can be evicted.
        return Action.NOTE_READY
    if view.state == ReplicaState.STARTING:
        late = age >= START_TIMEOUT_SECONDS and not view.is_alive
        if not view.wanted or (late and not node_is_alive):
            return Action.NOTE_STOPPED
        return Action.ANNOUNCE_AGAIN if late else None
    if not view.is_alive:
        # A process not known to be dead may be about to send its first heartbeat.
        return Action.NOTE_DEATH if view.is_dead or age >= rules.lease_seconds else None
    if view.state == ReplicaState.LOADING and age >= rules.load_stall_seconds:
        return Action.FAIL_LOAD
    if view.state == ReplicaState.DRAINING and age >= rules.drain_timeout_seconds:
        return Action.KILL
    if not view.wanted:
        return Action.DRAIN
    calm_seconds = CALM_SECONDS if view.has_served else CALM_UNUSED_SECONDS
    calm = view.state == ReplicaState.READY and age >= calm_seconds
    return Action.FORGIVE if calm and view.crashes else None
