"""Who leaves memory though nobody wants the room: pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models_registry.plan.facts import NodeView, ReplicaView, Rules, VersionView
from models_registry.plan.ledger import HOSTS, Ledger
from models_registry.plan.lifecycle import may_start
from models_registry.plan.reasons import format_bytes
from models_registry.plan.victims import (
    Versions,
    choose_superfluous,
    curable_overdraft,
    idle_seconds,
    is_idle,
    serves,
)
from models_registry.plan.wants import standing


@dataclass(frozen=True)
class Retire:
    """Take a replica out of memory when it has done what it works on.

    ``reason`` is for people; with "" what its row says already stands.
    """

    replica_id: int
    reason: str


def expired(replicas: Iterable[ReplicaView], versions: Versions, rules: Rules) -> list[Retire]:
    """Replicas that nobody has asked for as long as they were to be kept, or asks for any more.

    So many as are to be there whether requests come or not stay; of several that could go those
    that only requests brought in go first, and then the newest.
    """
    fleet: dict[str, list[ReplicaView]] = defaultdict(list)
    for replica in replicas:
        fleet[replica.version].append(replica)
    found = []
    for key, own in fleet.items():
        version = versions[key]
        found += [Retire(one.id, "") for one in own if _is_given_up(one, version)]
        idle = [one for one in own if _is_unused(one, versions, rules)]
        idle.sort(key=lambda one: (not one.on_demand, -one.id))
        spare = max(0, sum(map(serves, own)) - standing(version))
        reason = f"Not used for {version.keep_alive_seconds:g} s (keep-alive)."
        found += [Retire(one.id, reason) for one in idle[:spare]]
    return found


def _is_given_up(replica: ReplicaView, version: VersionView) -> bool:
    """Whether requests wanted it back, and there are none any more."""
    is_asked_for = standing(version) or version.queued
    return replica.on_demand and may_start(replica) and not is_asked_for


def _is_unused(replica: ReplicaView, versions: Versions, rules: Rules) -> bool:
    version = versions[replica.version]
    # What is foreseen has yet to be used.
    if not serves(replica) or not is_idle(replica, versions) or version.foreseen:
        return False
    # A person who loads what leaves at once wants to see it there.
    if not replica.on_demand and replica.state_age_seconds < rules.minimum_dwell_seconds:
        return False
    return idle_seconds(replica, versions) >= version.keep_alive_seconds


def overdrawn(
    node: NodeView,
    replicas: Sequence[ReplicaView],
    versions: Versions,
    ledger: Ledger,
    rules: Rules,
) -> list[Retire]:
    """Replicas that must leave because a node holds more than it may.

    That is so when a measurement exceeds what was foreseen, or when a budget is lowered. Where
    pinned ones alone are too much, nobody leaves: it would not help.

    Args:
        node: one that shows itself.
        replicas: all replicas.
        versions: all versions.
        ledger: the room there is.
        rules: the times to go by.
    """
    over = curable_overdraft(node.name, replicas, versions, ledger)
    if not over:
        return []
    device, count = next(iter(over.items()))
    what = f"{count} host(s)" if device == HOSTS else f"{format_bytes(count)} of {device} memory"
    reason = f"Put out because {node.name} holds {what} more than it may."
    chosen = choose_superfluous(node, replicas, versions, ledger, rules, over)
    return [Retire(one.id, reason) for one in chosen]
