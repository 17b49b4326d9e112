"""Which versions to bring into memory before anybody asks, and whether that was right: pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models_registry.plan.facts import NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.ledger import Ledger
from models_registry.plan.wants import may_be_guessed, queue_is_short
from models_registry.rules.outcome import Outcome

LIKELY: Final = 0.5
"""From this probability on a version is worth free memory."""
REST_SECONDS: Final = 600.0
"""What has left memory, by keep-alive, for others or by hand, is not brought back any sooner."""


@dataclass(frozen=True)
class Preload:
    """A version that is worth bringing in now, where, and how likely it is to be asked for."""

    version: str
    probability: float
    placement: Placement

    @property
    def needed_bytes(self) -> int:
        """What it takes on all devices together."""
        return sum(self.placement.needs.values())


def likely(probabilities: Mapping[str, float], recent: Collection[str]) -> dict[str, float]:
    """The versions worth a prediction, the most likely first.

    Args:
        probabilities: of a request soon, by version key.
        recent: versions with a prediction whose time is not over. They get no second one, so that
            no version comes and goes more than once in it.
    """
    found = [
        (key, chance)
        for key, chance in probabilities.items()
        if chance >= LIKELY and key not in recent
    ]
    return dict(sorted(found, key=lambda one: (-one[1], one[0])))


def choose(
    probabilities: Mapping[str, float],
    promised: Collection[str],
    nodes: Iterable[NodeView],
    versions: Mapping[str, VersionView],
    replicas: Sequence[ReplicaView],
    rules: Rules,
) -> list[Preload]:
    """What to preload into free memory; nothing is put out for it.

    Args:
        probabilities: of what ``likely`` found, in its order.
        promised: versions already chosen that may not be in memory; their room is kept.
        nodes: machines and their budgets.
        versions: at least the likely and the promised ones with their placements, and all that
            requests wait for.
        replicas: every replica there is a row of.
        rules: of the plan.
    """
    if not queue_is_short(versions.values(), rules):
        return []
    ledger = Ledger([node for node in nodes if node.is_alive], replicas, rules)
    rows: dict[str, list[ReplicaView]] = {key: [] for key in versions}
    for replica in replicas:
        rows.setdefault(replica.version, []).append(replica)
    chosen = []
    for key in (*promised, *probabilities):
        version = versions.get(key)
        is_new = key in probabilities
        if version is None or version.unusable or not may_be_guessed(rows[key]):
            continue
        if is_new and any(one.state_age_seconds < REST_SECONDS for one in rows[key]):
            continue
        placement = next((one for one in version.placements if ledger.fits_now(one)), None)
        if placement is None:
            continue
        ledger.take(placement)
        if is_new:
            chosen.append(Preload(key, probabilities[key], placement))
    return chosen


def judge(
    made_at: float, until: float, first_asked_at: float | None, now: float, grace_seconds: float
) -> tuple[Outcome, float]:
    """Whether a prediction was right, and for how many seconds its memory lay idle.

    Args:
        made_at, until: its time, in Unix seconds.
        first_asked_at: the first request within it that is known of.
        now: Unix seconds.
        grace_seconds: how much later requests become known, at most.
    """
    if first_asked_at is not None:
        return Outcome.HIT, first_asked_at - made_at
    if now < until + grace_seconds:
        return Outcome.PENDING, 0.0
    return Outcome.WASTE, until - made_at
