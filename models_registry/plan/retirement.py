"""The replicas that leave memory: unused, over a budget, or evicted for another version: pure."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from models_registry.plan.facts import NodeView, Placement, ReplicaView, VersionView
from models_registry.plan.lifecycle import may_start
from models_registry.plan.reasons import format_bytes
from models_registry.plan.room import HOSTS, Room, full_needs, total
from models_registry.plan.wants import Want

# A version for which anything that is not pinned may be evicted.
_ANY_VERSION = VersionView("", is_embedding=True)


@dataclass(frozen=True)
class Retire:
    """Let a replica finish its requests and leave memory."""

    replica_id: int
    reason: str  # for people; "" leaves the reason in the replica's row as it is


def expired(room: Room) -> list[Retire]:
    """Replicas whose keep-alive has ended, and stopped ones that requests no longer want back.

    As many as are wanted whether requests come or not stay. Those that only requests brought in
    leave first, then the newest.
    """
    found = []
    for key, own in room.fleet.items():
        version = room.versions[key]
        if not (version.standing or version.queued):
            found += [Retire(one.id, "") for one in own if one.on_demand and may_start(one)]
        unused = [one for one in own if _is_unused(room, one)]
        unused.sort(key=lambda one: (not one.on_demand, -one.id))
        spare = max(0, sum(one.is_available for one in own) - version.standing)
        reason = f"Not used for {version.keep_alive_seconds:g} s (keep-alive)."
        found += [Retire(one.id, reason) for one in unused[:spare]]
    return found


def _is_unused(room: Room, replica: ReplicaView) -> bool:
    version = room.versions[replica.version]
    # A foreseen version is kept for its first request, a member of a run for its next call.
    is_expected = version.foreseen or version.phases_until_use < math.inf
    if not replica.is_available or not replica.is_idle(version) or is_expected:
        return False
    # A person who loads a version with a keep-alive of 0 wants to see it in memory.
    if not replica.on_demand and replica.state_age_seconds < room.rules.minimum_dwell_seconds:
        return False
    return replica.idle_seconds(version) >= version.keep_alive_seconds


def overdrawn(room: Room, node: NodeView) -> list[Retire]:
    """Replicas to evict from a live node that holds more than its budgets.

    A measurement has exceeded what was foreseen, or a budget was lowered. Busy replicas are evicted
    when that has lasted for the maximum wait. Where replicas that are never evicted exceed the
    budget by themselves, evicting others would not help.
    """
    account = room.nodes[node.name]
    movable = total(
        one
        for one in room.replicas
        if one.node == node.name
        and one.occupies
        and one.is_coming
        and not room.is_kept(one, _ANY_VERSION)
    )
    incurable = account.overdraft(movable)
    over = {name: size for name, size in account.overdraft().items() if name not in incurable}
    if not over:
        return []

    def suffices(freed: Counter[str]) -> bool:
        return not over.keys() & account.overdraft(freed).keys()

    with_busy = node.overdrawn_seconds >= room.rules.maximum_wait_seconds
    ordered = _in_order(room, room.evictable(node.name, _ANY_VERSION), with_busy=with_busy)
    device, size = next(iter(over.items()))
    excess = f"{size} host(s)" if device == HOSTS else f"{format_bytes(size)} of {device} memory"
    reason = f"Evicted because {node.name} exceeds its budget by {excess}."
    return [Retire(one.id, reason) for one in _fewest(ordered, over.keys(), suffices)]


def victims(room: Room, want: Want, placement: Placement) -> list[ReplicaView]:
    """Replicas to evict so that a version fits; none where even all of them do not suffice."""

    def suffices(freed: Counter[str]) -> bool:
        return room.fits_soon(placement, freed)

    evictable = room.evictable(placement.node, want.version)
    ordered = _in_order(room, evictable, with_busy=want.is_starved(room.rules))
    chosen = _fewest(ordered, full_needs(placement.needs).keys(), suffices)
    return chosen if suffices(total(chosen)) else []


def _in_order(room: Room, replicas: Sequence[ReplicaView], *, with_busy: bool) -> list[ReplicaView]:
    """The replicas that have dwelt, in the order in which they are evicted.

    Of idle ones those go first that runs of several models need last or never, then the least
    recently used. Of busy ones those whose waiting requests have
    the lowest priority go first, then the one that has served longest.
    """

    def order(replica: ReplicaView) -> tuple[float, ...]:
        version = room.versions[replica.version]
        is_protected, is_embedding = room.is_protected_embedding(replica), version.is_embedding
        if replica.is_idle(version):
            wanted = (-version.phases_until_use, -replica.idle_seconds(version))
            return (0, is_protected, not version.foreseen, is_embedding, *wanted, replica.id)
        age = replica.state_age_seconds
        return (1, is_protected, is_embedding, version.priority, -age, replica.id)

    dwell_seconds = room.rules.minimum_dwell_seconds
    rested = [one for one in replicas if one.state_age_seconds >= dwell_seconds]
    return sorted((one for one in rested if with_busy or room.is_idle(one)), key=order)


def _fewest(
    ordered: Sequence[ReplicaView],
    devices: Collection[str],
    suffices: Callable[[Counter[str]], bool],
) -> list[ReplicaView]:
    """The first replicas that suffice, without those that later ones make superfluous."""
    chosen: list[ReplicaView] = []
    for replica in ordered:
        if suffices(total(chosen)):
            break
        if full_needs(replica.needs).keys() & devices:
            chosen.append(replica)
    for replica in list(chosen):
        others = [one for one in chosen if one is not replica]
        if suffices(total(others)):
            chosen = others
    return chosen
