"""The versions to preload before they are requested, and how predictions turn out: pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models_registry.plan.facts import NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.room import Room
from models_registry.plan.wants import is_queue_short, may_be_guessed
from models_registry.rules.outcome import Outcome

# From this probability on a version is worth free memory.
LIKELY: Final = 0.5
# A version that left memory, for whatever reason, is not preloaded earlier than this.
REST_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Preload:
    version: str
    probability: float
    placement: Placement

    @property
    def needed_bytes(self) -> int:
        return sum(self.placement.needs.values())


def likely(probabilities: Mapping[str, float], recent: Collection[str]) -> dict[str, float]:
    """The versions worth a prediction, the most likely first.

    Versions with a ``recent`` prediction, whose time is not over, get no second one: so no version
    comes and goes more than once in it.
    """
    found = {
        key: chance
        for key, chance in probabilities.items()
        if chance >= LIKELY and key not in recent
    }
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def choose(
    probabilities: Mapping[str, float],
    promised: Collection[str],
    nodes: Iterable[NodeView],
    versions: Mapping[str, VersionView],
    replicas: Sequence[ReplicaView],
    rules: Rules,
) -> list[Preload]:
    """Choose what to preload into free memory, without evicting anything.

    Args:
        probabilities: what ``likely`` returned.
        promised: versions chosen earlier; memory is kept for those that are not loaded yet.
        nodes, replicas, rules: as for the plan.
        versions: the likely and promised ones, and all that requests wait for.
    """
    if not is_queue_short(versions.values(), rules):
        return []
    room = Room(nodes, versions.values(), replicas, rules)
    fleet = room.fleet
    chosen = []
    for key in (*promised, *probabilities):
        version, rows, is_new = versions.get(key), fleet[key], key in probabilities
        if version is None or version.unusable or not may_be_guessed(rows):
            continue
        if is_new and any(one.state_age_seconds < REST_SECONDS for one in rows):
            continue
        placement = next(filter(room.fits_now, version.placements), None)
        if placement is None:
            continue
        room.reserve(placement)
        if is_new:
            chosen.append(Preload(key, probabilities[key], placement))
    return chosen


def judge(
    made_at: float, until: float, first_asked_at: float | None, now: float, grace_seconds: float
) -> tuple[Outcome, float]:
    """Whether a prediction was right, and for how many seconds its memory lay idle.

    Times are in Unix seconds. A request becomes known after ``grace_seconds`` at most.
    """
    if first_asked_at is not None:
        return Outcome.HIT, first_asked_at - made_at
    if now < until + grace_seconds:
        return Outcome.PENDING, 0.0
    return Outcome.WASTE, until - made_at
