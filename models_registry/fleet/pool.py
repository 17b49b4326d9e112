"""The pool of model hosts as a whole: its state, and the models in it with their references."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models_registry.fleet.live_figures import LiveFigures, Subjects, read_figures
from models_registry.fleet.registrations import active_registrations
from models_registry.models import Node, Registration, Replica

State = Literal["initializing", "ready", "scaling", "degraded", "error"]
_COMING = frozenset({Replica.State.STOPPED, Replica.State.STARTING, Replica.State.LOADING})


@dataclass(frozen=True)
class PooledModel:
    """A version that is in memory, on its way there, or registered.

    ``replicas`` are wanted, or still there, or have failed. ``registrations`` count as references.
    """

    version_key: str
    replicas: list[Replica]
    registrations: list[Registration]
    state: State | None
    queued: int = 0

    @property
    def last_used_at(self) -> datetime | None:
        """The last use of a registration of it, to the minute."""
        times = [row.last_used_at for row in self.registrations if row.last_used_at]
        return max(times, default=None)

    @property
    def devices(self) -> list[str]:
        """The devices that its replicas compute on."""
        at_rest = (Replica.State.STOPPED, Replica.State.FAILED)
        held = [replica for replica in self.replicas if replica.state not in at_rest]
        return sorted({replica.device or replica.placed_on for replica in held})

    @property
    def is_loaded(self) -> bool:
        return any(replica.state == Replica.State.READY for replica in self.replicas)


@dataclass(frozen=True)
class Pool:
    """The pool at one moment; ``places`` is how many hosts the living nodes may run."""

    state: State
    models: list[PooledModel] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    places: int = 0
    fault: str = ""


def pool_state(replicas: Iterable[tuple[bool, str]], has_nodes: bool = True) -> State:
    """How the pool, or the replicas of one version, are doing: pure.

    Args:
        replicas: whether each is wanted, and its state.
        has_nodes: whether any machine can run a replica.

    Returns:
        ``error``: no wanted replica serves, and none is coming.
        ``degraded``: some have failed, and others serve or nobody wants the failed ones any more.
        ``initializing``: the first are coming. ``scaling``: some serve while others come or go.
        ``ready``: all wanted replicas serve. They may be none: models come when asked for.
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
    keys = sorted(
        {one.version.key for one in replicas} | {one.version.key for one in registrations}
    )
    figures = read_figures(Subjects([], keys, [node.name for node in nodes]))
    alive = [node for node in nodes if node.name in figures.alive_nodes]
    return Pool(
        state=pool_state(map(_wish_and_state, replicas), bool(alive)),
        models=[_model(key, replicas, registrations, figures) for key in keys],
        nodes=[node.name for node in alive],
        places=sum(node.max_replicas for node in alive),
        fault=figures.fault,
    )


def _model(
    key: str,
    replicas: Sequence[Replica],
    registrations: Sequence[Registration],
    figures: LiveFigures,
) -> PooledModel:
    own = [replica for replica in replicas if replica.version.key == key]
    return PooledModel(
        version_key=key,
        replicas=own,
        registrations=[row for row in registrations if row.version.key == key],
        state=pool_state(map(_wish_and_state, own)) if own else None,
        queued=figures.queued.get(key, 0),
    )


def _wish_and_state(replica: Replica) -> tuple[bool, str]:
    return replica.desired == Replica.Desired.RESIDENT, replica.state
