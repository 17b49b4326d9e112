"""What one replica's own state asks for, whatever there is room for: pure."""

from enum import Enum

from models_registry.plan.facts import ReplicaView, Rules

# A start that no cluster has picked up for this long is announced again: the cluster may have
# died with the announcement in its hands.
START_TIMEOUT_SECONDS = 10.0
# A replica that is ready for so long and has brought a request to its end is no longer held to its
# earlier crashes, nor is one that was drained in order after it had.
CALM_SECONDS = 10.0
# Without a request, readiness proves little: what kills it may be what it is asked.
CALM_UNUSED_SECONDS = 600.0
# So many launches in a row that ended badly make a crash loop.
CRASH_LOOP = 3
CRASH_LOOP_REST_SECONDS = 4.0
MAX_BACKOFF_SECONDS = 300.0


class Action(Enum):
    """What the controller does to a replica."""

    ANNOUNCE_AGAIN = "announce again"
    DRAIN = "drain"
    KILL = "kill"
    FAIL_LOAD = "fail load"
    NOTE_DEATH = "note death"
    NOTE_STOPPED = "note stopped"
    NOTE_READY = "note ready"
    FORGIVE = "forgive"


def backoff_seconds(crashes: int) -> float:
    """Pause before a replica that ended badly ``crashes`` times in a row starts again.

    The first time costs nothing, since its requests wait; from the third on it is a crash loop and
    the pause doubles.
    """
    if crashes < CRASH_LOOP:
        return 0.0 if crashes <= 1 else 2.0
    # Without the bound the power would overflow after a thousand crashes.
    doublings = min(crashes - CRASH_LOOP, 10)
    return min(MAX_BACKOFF_SECONDS, CRASH_LOOP_REST_SECONDS * 2.0**doublings)


def rest_seconds(view: ReplicaView) -> float:
    """How long it will still be before the replica may start; 0 when it may now."""
    if view.state != "failed":
        return 0.0
    crashes = max(view.crashes, 2) if view.load_failed else view.crashes
    return max(0.0, backoff_seconds(crashes) - view.state_age_seconds)


def may_start(view: ReplicaView) -> bool:
    """Whether it is wanted, not there, and nothing but room is missing."""
    absent = view.state in ("stopped", "failed") and not view.holds_memory
    return view.wanted and absent and view.file_ready and rest_seconds(view) == 0


def next_action(view: ReplicaView, rules: Rules, node_is_alive: bool) -> Action | None:
    """What is due for a replica apart from its start.

    Args:
        view: the replica.
        rules: the times to go by.
        node_is_alive: whether a cluster of its node takes tasks.
    """
    if view.is_stuck:
        late = view.state_age_seconds >= rules.drain_patience_seconds
        return Action.KILL if late else None
    if view.state in ("stopped", "failed"):
        # What somebody has to look into stays to be seen.
        is_over = view.state == "failed" and not view.wanted and not view.failure
        return Action.NOTE_STOPPED if is_over else None
    if view.state in ("starting", "loading") and view.is_alive and view.is_serving:
        # The host could not write it itself. Until it is noted nobody may put it out.
        return Action.NOTE_READY
    if view.state == "starting":
        late = view.state_age_seconds >= START_TIMEOUT_SECONDS and not view.is_alive
        if not view.wanted or (late and not node_is_alive):
            return Action.NOTE_STOPPED
        return Action.ANNOUNCE_AGAIN if late else None
    if not view.is_alive:
        # Without certainty its first heartbeat may still be on the way.
        gone = view.is_dead or view.state_age_seconds >= rules.lease_seconds
        return Action.NOTE_DEATH if gone else None
    return _of_living(view, rules)


def _of_living(view: ReplicaView, rules: Rules) -> Action | None:
    """What is due for a replica whose process loads, serves or leaves."""
    age = view.state_age_seconds
    if view.state == "loading" and age >= rules.load_stall_seconds:
        return Action.FAIL_LOAD
    if view.state == "draining" and age >= rules.drain_timeout_seconds:
        return Action.KILL
    if not view.wanted:
        return Action.DRAIN
    calm_seconds = CALM_SECONDS if view.has_served else CALM_UNUSED_SECONDS
    calm = view.state == "ready" and age >= calm_seconds
    return Action.FORGIVE if calm and view.crashes else None
