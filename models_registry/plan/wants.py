"""The replicas that versions lack, in the order in which they are served: pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from models_registry.plan.facts import Placement, ReplicaView, Rules, VersionView
from models_registry.plan.lifecycle import may_start, rest_seconds
from models_registry.plan.room import Room


@dataclass(frozen=True)
class Want:
    """One more replica that a version should have."""

    version: VersionView
    placements: tuple[Placement, ...]
    replica: ReplicaView | None = None  # the row that is to come back; None for a new one
    may_evict: bool = True  # the first copy that requests, a person or a pin want
    waited_seconds: float = 0.0  # by requests, or by the person who asked
    urgency_seconds: float = 0.0  # the same with the head start of priority
    is_guess: bool = False  # foreseen only
    is_standing_embedding: bool = False  # the first copy of one

    def is_starved(self, rules: Rules) -> bool:
        """Whether busy replicas may be evicted for it too."""
        return self.may_evict and self.waited_seconds >= rules.maximum_wait_seconds


def wants(room: Room) -> list[Want]:
    """All replicas that are lacking, the most pressing first.

    The starved come first, by their wait, so that no priority can delay a version for ever; then
    standing embedding models, then the others by urgency, then what takes only free memory.
    """
    fleet = room.fleet
    may_guess = is_queue_short(room.versions.values(), room.rules)
    found = [
        want
        for version in room.versions.values()
        if not version.unusable
        for want in _wants_of(version, fleet[version.key], may_guess=may_guess)
    ]

    def order(want: Want) -> tuple[bool, bool, bool, bool, float, str]:
        is_starved = want.is_starved(room.rules)
        seconds = want.waited_seconds if is_starved else want.urgency_seconds
        return (
            not is_starved,
            not want.is_standing_embedding,
            not want.may_evict,
            want.is_guess,
            -seconds,
            want.version.key,
        )

    return sorted(found, key=order)


def _wants_of(version: VersionView, replicas: list[ReplicaView], *, may_guess: bool) -> list[Want]:
    coming = sum(replica.is_coming for replica in replicas)
    absent = [replica for replica in replicas if replica.wanted and not replica.occupies]
    returning = [replica for replica in absent if may_start(replica)]
    found = [_return_of(version, replica, coming) for replica in returning]
    # Not where it rests from a crash, nor where a process has not ended: the next might hang too.
    barred = {one.node for one in replicas if rest_seconds(one) > 0 or one.is_stuck}
    allowed = [place for place in version.placements if place.node not in barred]
    # Another copy goes to a node without one, if there is such a node.
    copies = [replica.node for replica in replicas if replica.occupies]
    places = tuple(sorted(allowed, key=lambda place: copies.count(place.node)))
    if version.queued and not coming and not returning:
        found.append(
            Want(
                version,
                places,
                waited_seconds=version.oldest_wait_seconds,
                urgency_seconds=version.urgency_seconds,
            )
        )
    missing = version.standing - coming - max(len(absent), len(found))
    for number in range(missing):
        first_of_pinned = version.pinned and not coming and number == 0
        # Each further one looks at another node first.
        turn = number % max(1, len(places))
        found.append(Want(version, places[turn:] + places[:turn], may_evict=first_of_pinned))
    if found and not coming and version.is_standing_embedding:
        found[0] = replace(found[0], is_standing_embedding=True)
    if may_guess and version.foreseen and not found and may_be_guessed(replicas):
        found.append(Want(version, places, may_evict=False, is_guess=True))
    return [want for want in found if want.placements or not version.placements]


def is_queue_short(versions: Iterable[VersionView], rules: Rules) -> bool:
    """Whether few enough requests wait for a foreseen version to be loaded."""
    return sum(version.queued for version in versions) < rules.short_queue


def may_be_guessed(replicas: Iterable[ReplicaView]) -> bool:
    """Whether a version is out of memory, not wanted there, and has not crashed lately."""
    return not any(one.occupies or one.wanted or one.crashes for one in replicas)


def _return_of(version: VersionView, replica: ReplicaView, coming: int) -> Want:
    """The want of an absent replica: it was just asked for, or its host ended.

    Nothing is evicted for what settings or programs want ahead of requests, or for a second copy.
    """
    own = tuple(place for place in version.placements if place.node == replica.node)
    others = tuple(place for place in version.placements if place.node != replica.node)
    requests_wait = version.queued > 0 and not coming
    asked_by_person = not version.standing and not replica.on_demand
    is_wished = not coming and (version.pinned or asked_by_person)
    absent_seconds = replica.state_age_seconds if is_wished else 0.0
    return Want(
        version,
        own + others if requests_wait else own,
        replica,
        may_evict=is_wished or requests_wait,
        waited_seconds=max(absent_seconds, version.oldest_wait_seconds if requests_wait else 0.0),
        urgency_seconds=max(absent_seconds, version.urgency_seconds if requests_wait else 0.0),
    )
