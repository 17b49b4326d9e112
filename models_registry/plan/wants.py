"""Which versions lack a replica, how badly, and in which order they are served: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from models_registry.plan.facts import Placement, ReplicaView, Rules, VersionView
from models_registry.plan.lifecycle import may_start, rest_seconds

Fleet = Mapping[str, Sequence[ReplicaView]]
"""Replicas by version key."""


@dataclass(frozen=True)
class Want:
    """One more replica that a version should have.

    ``replica`` is the row that is to come back, None for a new one. With ``may_evict`` idle ones
    make room for it, otherwise it takes what is free: that is for the first copy of a version
    that requests, a person or a pin want. With ``keeps_place`` it is the first copy of an embedding
    model that is to be there whatever comes and goes. ``waited_seconds`` is how long requests, or
    the person who asked, have waited; ``urgency_seconds`` adds the head start of priority. Behind
    one that ``is_guess`` there is nobody yet.
    """

    version: VersionView
    placements: tuple[Placement, ...]
    replica: ReplicaView | None = None
    may_evict: bool = True
    waited_seconds: float = 0.0
    urgency_seconds: float = 0.0
    is_guess: bool = False
    keeps_place: bool = False

    def is_starved(self, rules: Rules) -> bool:
        """Whether busy replicas must make room too."""
        return self.may_evict and self.waited_seconds >= rules.maximum_wait_seconds


def wants(versions: Iterable[VersionView], fleet: Fleet, rules: Rules) -> list[Want]:
    """All that is lacking, the first to be served first.

    Those starved come first, the longest wait before the others, so that no priority can hold
    anybody off for ever; then the embedding models that stay, which take only what is free; then
    by urgency; then what is only to fill free room, and of that what is only foreseen last.
    """
    versions = list(versions)
    may_guess = queue_is_short(versions, rules)
    found = [
        want
        for version in versions
        if not version.unusable
        for want in _wants_of(version, fleet.get(version.key, ()), may_guess=may_guess)
    ]
    return sorted(
        found,
        key=lambda want: (
            not want.is_starved(rules),
            not want.keeps_place,
            not want.may_evict,
            want.is_guess,
            -want.waited_seconds if want.is_starved(rules) else -want.urgency_seconds,
            want.version.key,
        ),
    )


def _wants_of(
    version: VersionView, replicas: Sequence[ReplicaView], *, may_guess: bool
) -> list[Want]:
    coming = sum(replica.is_coming for replica in replicas)
    absent = [replica for replica in replicas if replica.wanted and not replica.occupies]
    returning = [replica for replica in absent if may_start(replica)]
    found = [_return_of(version, replica, coming) for replica in returning]
    places = _elsewhere(version, replicas)
    if version.queued and not coming and not returning:
        found.append(
            Want(
                version,
                places,
                waited_seconds=version.oldest_wait_seconds,
                urgency_seconds=version.urgency_seconds,
            )
        )
    missing = standing(version) - coming - max(len(absent), len(found))
    for number in range(missing):
        first_of_pinned = version.pinned and not coming and number == 0
        # Each further one looks at another node first.
        turn = number % max(1, len(places))
        found.append(Want(version, places[turn:] + places[:turn], may_evict=first_of_pinned))
    if found and not coming and stands_as_embedding(version):
        found[0] = replace(found[0], keeps_place=True)
    if may_guess and version.foreseen and not found and may_be_guessed(replicas):
        found.append(Want(version, places, may_evict=False, is_guess=True))
    return [want for want in found if want.placements or not version.placements]


def standing(version: VersionView) -> int:
    """How many replicas of a version are to be in memory whether requests come or not."""
    return max(version.preload_workers, version.registered_workers, int(version.pinned))


def stands_as_embedding(version: VersionView) -> bool:
    """Whether it is an embedding model that people, settings or programs want in memory."""
    return version.is_embedding and bool(standing(version) or version.is_registered)


def queue_is_short(versions: Iterable[VersionView], rules: Rules) -> bool:
    """Whether so few requests wait that a load nobody asked for disturbs none."""
    return sum(version.queued for version in versions) < rules.short_queue


def may_be_guessed(replicas: Iterable[ReplicaView]) -> bool:
    """Whether a version is out of memory, not wanted there, and has not ended badly of late."""
    return not any(one.occupies or one.wanted or one.crashes for one in replicas)


def _return_of(version: VersionView, replica: ReplicaView, coming: int) -> Want:
    """A row whose replica is to be there and is not: it was just asked for, or its host ended.

    Where requests wait and nothing else serves them, another node will do as well. What settings
    and programs want ahead of requests, and what another copy serves, makes nobody leave, however
    long it was away.
    """
    own = tuple(place for place in version.placements if place.node == replica.node)
    others = tuple(place for place in version.placements if place.node != replica.node)
    requests_wait = version.queued > 0 and not coming
    asked_by_person = not standing(version) and not replica.on_demand
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


def _elsewhere(version: VersionView, replicas: Sequence[ReplicaView]) -> tuple[Placement, ...]:
    """The placements of a version, nodes without it first; none where it rests from a death.

    Nor where an earlier process has not ended: if it hangs, the next one would hang like it.
    """
    resting = {one.node for one in replicas if rest_seconds(one) > 0}
    resting |= {one.node for one in replicas if one.is_stuck}
    copies = [replica.node for replica in replicas if replica.occupies]
    allowed = [place for place in version.placements if place.node not in resting]
    return tuple(sorted(allowed, key=lambda place: copies.count(place.node)))
