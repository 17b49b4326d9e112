"""The pool of model hosts as a whole: how it is, and what is in memory for whom."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models_registry.fleet.live_figures import LiveFigures, Subjects, read_figures
from models_registry.fleet.registrations import active_registrations
from models_registry.models import Node, Registration, Replica

State = Literal["initializing", "ready", "scaling", "degraded", "error"]
_COMING = frozenset({"stopped", "starting", "loading"})


@dataclass(frozen=True)
class PooledModel:
    """A version that is in memory, on its way there, or registered.

    ``replicas`` are those that are wanted, still there, or left because they had failed.
    ``registrations`` count as references.
    """

    version_key: str
    replicas: list[Replica]
    registrations: list[Registration]
    state: State | None
    queued: int = 0

    @property
    def last_used_at(self) -> datetime | None:
        """When a registration of it was used last, to the minute."""
        times = [row.last_used_at for row in self.registrations if row.last_used_at]
        return max(times, default=None)

    @property
    def devices(self) -> list[str]:
        """What its replicas compute on."""
        return sorted({one.device or one.placed_on for one in self.replicas if _holds(one)})

    @property
    def is_loaded(self) -> bool:
        """Whether a replica serves it."""
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
        replicas: whether each is wanted, and the state it is in.
        has_nodes: whether any machine can run a replica.

    Returns:
        ``error``: of what is wanted nothing serves, and nothing is coming that could.
        ``degraded``: some have failed, and others serve or nobody asks for those any more.
        ``initializing``: the first are coming. ``scaling``: some serve while others come or go.
        ``ready``: all that is wanted serves; that may be nothing, for what is absent comes when it
        is asked for.
    """
    seen = list(replicas)
    wanted = [state for is_wanted, state in seen if is_wanted]
    coming = any(state in _COMING for state in wanted)
    failed = "failed" in wanted
    if not has_nodes or (failed and not coming and "ready" not in wanted):
        return "error"
    if "ready" not in wanted and coming:
        return "initializing"
    if any(state == "failed" for _, state in seen):
        return "degraded"
    if "ready" not in wanted:
        return "ready"
    leaving = any(state == "draining" for _, state in seen)
    return "scaling" if coming or leaving else "ready"


def read_pool() -> Pool:
    """The pool as rows and live figures show it."""
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
        state=pool_state(map(_sight, replicas), bool(alive)),
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
        state=pool_state(map(_sight, own)) if own else None,
        queued=figures.queued.get(key, 0),
    )


def _sight(replica: Replica) -> tuple[bool, str]:
    return replica.desired == Replica.Desired.RESIDENT, replica.state


def _holds(replica: Replica) -> bool:
    """Whether it takes memory, or is about to."""
    return replica.state not in (Replica.State.STOPPED, Replica.State.FAILED)
