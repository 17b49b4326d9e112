"""Tell cheaply whether anything has changed since the controller's last tick."""

from typing import Any

import redis

from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.controller.observe import Observation
from inference.queue import keys
from inference.queue.demand import ANNOUNCED_SECONDS
from inference.queue.scripts import DirectScript, script
from models_registry.fleet.snapshot import registry_fingerprint
from models_registry.models import Replica
from models_registry.plan.facts import Rules
from models_registry.plan.lifecycle import rest_seconds
from models_registry.plan.plan import Plan

# A full tick follows after so long in any case, for files and for changes that time alone makes.
FULL_TICK_SECONDS = 8.0
_MOVING = (Replica.State.STARTING, Replica.State.LOADING, Replica.State.DRAINING)


class ChangeDetector:
    def __init__(self, client: redis.Redis, lease_seconds: float) -> None:
        self._script = DirectScript(client, script("unchanged"))
        self._lease_seconds = lease_seconds
        self._arguments: list[Any] = []
        self._locks: list[LivenessLock] = []

    def follow(self, observation: Observation) -> None:
        snapshot = observation.snapshot
        launches = [str(row.launch_id) for row in snapshot.replicas]
        named = ([node.name for node in snapshot.nodes], snapshot.version_keys, launches)
        self._arguments = [self._lease_seconds, ANNOUNCED_SECONDS, *map("\n".join, named)]
        self._locks = [LivenessLock(liveness_folder(), launch) for launch in launches]

    def fingerprint(self) -> object:
        """A value that changes with registry, hosts, nodes and requests; None while one waits."""
        names = [keys.HOSTS, keys.DEAD, keys.USED, keys.LOADABLE]
        shown: Any = self._script(names, self._arguments)
        if shown is None:
            return None
        return shown, [lock.is_abandoned() for lock in self._locks], registry_fingerprint()


def is_settled(plan: Plan, observation: Observation, rules: Rules) -> bool:
    """Whether nothing is due, and nothing will be in a moment: pure."""
    return not (
        plan.actions
        or plan.retirements
        or plan.starts
        or plan.overdrawn
        or any(rules.expects(node) for node in observation.nodes)
        or any(
            view.state in _MOVING
            or view.is_stuck
            or rest_seconds(view) > 0
            or (view.state == Replica.State.READY and not view.is_alive)
            # Its crashes are forgiven in a moment.
            or (view.state == Replica.State.READY and view.crashes and view.has_served)
            for view in observation.replicas
        )
    )


def full_tick_in_seconds(observation: Observation) -> float:
    left = (
        observation.versions[view.version].keep_alive_seconds
        - view.idle_seconds(observation.versions[view.version])
        for view in observation.replicas
        if view.state == Replica.State.READY
    )
    return min([FULL_TICK_SECONDS, *(seconds for seconds in left if seconds > 0)])
