"""Two short questions that tell the controller whether anything has changed since its last look."""

from typing import Any

import redis

from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.controller.outlook import Outlook
from inference.queue import keys
from inference.queue.demand import OUTLOOK_SECONDS
from inference.queue.scripts import DirectScript, script
from models_registry.fleet.census import registry_mark
from models_registry.plan.facts import Rules
from models_registry.plan.lifecycle import rest_seconds
from models_registry.plan.plan import Plan

# Everything is looked at so often, for what time alone changes, and files.
LOOK_SECONDS = 8.0
_MOVING = frozenset({"starting", "loading", "draining"})


class Changes:
    """Tells that nothing has happened since a look, without reading any of what was looked at."""

    def __init__(self, client: redis.Redis, lease_seconds: float) -> None:
        self._script = DirectScript(client, script("unchanged"))
        self._lease_seconds = lease_seconds
        self._arguments: list[Any] = []
        self._locks: list[LivenessLock] = []

    def follow(self, outlook: Outlook) -> None:
        """Ask about what was seen there from now on."""
        census = outlook.census
        launches = [str(row.launch_id) for row in census.replicas]
        named = ([node.name for node in census.nodes], census.version_keys, launches)
        self._arguments = [self._lease_seconds, OUTLOOK_SECONDS, *map("\n".join, named)]
        self._locks = [LivenessLock(liveness_folder(), launch) for launch in launches]

    def mark(self) -> object:
        """A value that is another one as soon as the registry, a host, a node or a request is.

        Returns:
            None while requests wait or are at work: then there is no need to compare.
        """
        names = [keys.HOSTS, keys.DEAD, keys.USED, keys.LOADABLE]
        shown: Any = self._script(names, self._arguments)
        if shown is None:
            return None
        return shown, [lock.is_abandoned() for lock in self._locks], registry_mark()


def is_settled(drawn: Plan, outlook: Outlook, rules: Rules) -> bool:
    """True when nothing is due, and nothing will be in a moment: pure."""
    return not (
        drawn.actions
        or drawn.retirements
        or drawn.starts
        or drawn.overdrawn
        or any(rules.expects(node) for node in outlook.nodes)
        or any(
            view.state in _MOVING
            or view.is_stuck
            or rest_seconds(view) > 0
            or (view.state == "ready" and not view.is_alive)
            or (view.state == "ready" and view.crashes and view.has_served)  # forgiven in a moment
            for view in outlook.replicas
        )
    )


def look_in_seconds(outlook: Outlook) -> float:
    """When to look again though nothing changes: the keep-alive of a replica may end before."""
    left = (
        outlook.versions[view.version].keep_alive_seconds
        - view.idle_seconds(outlook.versions[view.version])
        for view in outlook.replicas
        if view.state == "ready"
    )
    return min([LOOK_SECONDS, *(seconds for seconds in left if seconds > 0)])
