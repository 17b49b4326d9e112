"""The pool of model hosts as a whole: its state, and the models in it with their references."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models_registry.fleet.live_figures import Subjects, read_figures
from models_registry.fleet.registrations import active_registrations
from models_registry.models import Node, Registration, Replica
from models_registry.plan.facts import OCCUPYING

State = Literal["initializing", "ready", "scaling", "degraded", "error"]
_COMING = frozenset({Replica.State.STOPPED, Replica.State.STARTING, Replica.State.LOADING})


@dataclass(frozen=True)
class PooledModel:
    version_key: str
    replicas: list[Replica]
    registrations: list[Registration]
    state: State | None
    queued: int = 0

    @property
    def last_used_at(self) -> datetime | None:
        times = (row.last_used_at for row in self.registrations if row.last_used_at)
        return max(times, default=None)

    @property
    def devices(self) -> list[str]:
        held = [replica for replica in self.replicas if replica.state in OCCUPYING]
        return sorted({replica.device or replica.placed_on for replica in held})

    @property
    def is_loaded(self) -> bool:
        return any(replica.state == Replica.State.READY for replica in self.replicas)


@dataclass(frozen=True)
class Pool:
    """``places`` is the number of hosts that the living nodes may run."""

    state: State
    models: list[PooledModel] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    places: int = 0
    fault: str = ""


def pool_state(replicas: Iterable[tuple[bool, str]], has_nodes: bool = True) -> State:
    """The state of the pool, or of one version, from (is wanted, state) of each replica: pure.

    ``error``: no wanted replica serves, and none is coming. ``degraded``: some have failed, and
    others serve or nobody wants the failed ones any more. ``initializing``: the first are coming.
    ``scaling``: some serve while others come or go. ``ready``: all wanted replicas serve; there may
    be none, since models come when asked for.
    """
    seen = list(replicas)
    wanted = [state for is_wanted, state in seen if is_wanted]
    coming = any(state in _COMING for state in wanted)
    serving = Replica.State.READY in wanted
    failed = Replica.State.FAILED in wanted
    if not has_nodes or (failed and not coming and not serving):
        return "error"
    if coming and not serving:
        return "initializing"
    if any(state == Replica.State.FAILED for _, state in seen):
        return "degraded"
    if not serving:
        return "ready"
    leaving = any(state == Replica.State.DRAINING for _, state in seen)
    return "scaling" if coming or leaving else "ready"


def read_pool() -> Pool:
    nodes = list(Node.objects.filter(seen_at__isnull=False))
    replicas = [
        replica
        for replica in Replica.objects.select_related("version__model", "node")
        if replica.desired == Replica.Desired.RESIDENT or replica.state != Replica.State.STOPPED
    ]
    registrations = list(active_registrations())
    versions = {row.version for row in replicas} | {row.version for row in registrations}
    keys = sorted(version.key for version in versions)
    figures = read_figures(Subjects([], keys, [node.name for node in nodes]))
    models = []
    for key in keys:
        own = [replica for replica in replicas if replica.version.key == key]
        state = pool_state(map(_wish_and_state, own)) if own else None
        claims = [row for row in registrations if row.version.key == key]
        models.append(PooledModel(key, own, claims, state, figures.queued.get(key, 0)))
    alive = [node for node in nodes if node.name in figures.alive_nodes]
    return Pool(
        state=pool_state(map(_wish_and_state, replicas), bool(alive)),
        models=models,
        nodes=[node.name for node in alive],
        places=sum(node.max_replicas for node in alive),
        fault=figures.fault,
    )


def _wish_and_state(replica: Replica) -> tuple[bool, str]:
    return replica.desired == Replica.Desired.RESIDENT, replica.state
