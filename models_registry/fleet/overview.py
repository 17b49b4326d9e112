"""The whole fleet at one moment, as an overview shows it: nodes, replicas, queues, downloads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q
from django.utils import timezone

from models_registry.fleet.census import version_keys
from models_registry.fleet.live_figures import HostFigures, LiveFigures, Subjects, read_figures
from models_registry.models import ACTIVE, Download, Node, Replica
from models_registry.plan.facts import OCCUPYING

# A download that has ended stays in sight for so long, so that nobody misses how.
_ENDED_SHOWN: Final = timedelta(minutes=10)
_SERVING: Final = (Replica.State.READY, Replica.State.DRAINING)
_NO_FIGURES: Final = HostFigures()


@dataclass(frozen=True)
class Holding:
    """Bytes of one device that one replica holds; ``is_reserved`` while it is being loaded."""

    version_key: str
    held_bytes: int
    is_reserved: bool


@dataclass(frozen=True)
class DeviceMemory:
    """What a device of a node may hold for models, and who holds it."""

    name: str
    description: str
    memory_bytes: int
    budget_bytes: int
    holdings: tuple[Holding, ...]

    @property
    def used_bytes(self) -> int:
        """Held by replicas that are loaded."""
        return sum(one.held_bytes for one in self.holdings if not one.is_reserved)

    @property
    def reserved_bytes(self) -> int:
        """Set aside for replicas that are being loaded."""
        return sum(one.held_bytes for one in self.holdings if one.is_reserved)

    @property
    def free_bytes(self) -> int:
        """What is left; below 0 where replicas turned out larger than foreseen."""
        return self.budget_bytes - self.used_bytes - self.reserved_bytes


@dataclass(frozen=True)
class NodeState:
    """A machine, whether its cluster takes tasks, and its devices."""

    node: Node
    is_alive: bool
    hosts: int
    devices: tuple[DeviceMemory, ...]


@dataclass(frozen=True)
class ReplicaState:
    """A replica with what its host does at the moment."""

    replica: Replica
    figures: HostFigures
    queued: int

    @property
    def is_serving(self) -> bool:
        """Whether it answers requests."""
        return self.replica.state in _SERVING


@dataclass(frozen=True)
class Overview:
    """Everything at ``seen_at``.

    ``queued`` are the requests that wait, by version key, for versions that have any;
    ``fault`` says why live figures are missing, "" when they are there.
    """

    seen_at: datetime
    nodes: tuple[NodeState, ...]
    replicas: tuple[ReplicaState, ...]
    queued: Mapping[str, int]
    downloads: tuple[Download, ...]
    fault: str = ""

    @property
    def tokens_per_second(self) -> float:
        """Of all hosts together."""
        return sum(one.figures.tokens_per_second for one in self.replicas)

    @property
    def running(self) -> int:
        """Sequences that all hosts run."""
        return sum(one.figures.running for one in self.replicas)

    @property
    def waiting(self) -> int:
        """Requests that wait in queues."""
        return sum(self.queued.values())


def read_overview() -> Overview:
    """The fleet as it is now. Reads the database, and the live figures once."""
    now = timezone.now()
    rows = list(_shown_replicas())
    nodes = list(Node.objects.filter(seen_at__isnull=False))
    figures = read_figures(
        Subjects(
            launch_ids=[str(row.launch_id) for row in rows if row.launch_id],
            version_keys=version_keys(),
            nodes=[node.name for node in nodes],
        )
    )
    return Overview(
        seen_at=now,
        nodes=tuple(node_state(node, rows, node.name in figures.alive_nodes) for node in nodes),
        replicas=tuple(_replica_state(row, figures) for row in rows),
        queued={key: count for key, count in figures.queued.items() if count},
        downloads=tuple(shown_downloads(now)),
        fault=figures.fault,
    )


def shown_downloads(now: datetime) -> Iterable[Download]:
    """Downloads that go on, and those that ended a moment ago; newest first."""
    shown = Q(state__in=ACTIVE) | Q(finished_at__gte=now - _ENDED_SHOWN)
    return Download.objects.select_related("version__model", "requested_by").filter(shown)


def node_state(node: Node, replicas: Sequence[Replica], is_alive: bool) -> NodeState:
    """A node with what the replicas on it hold.

    Args:
        node: the machine.
        replicas: of whichever node, with versions and models.
        is_alive: whether its cluster takes tasks.
    """
    own = [row for row in replicas if row.node_id == node.pk and row.state in OCCUPYING]
    facts = {device["name"]: device for device in node.devices}
    return NodeState(
        node=node,
        is_alive=is_alive,
        hosts=len(own),
        devices=tuple(
            DeviceMemory(
                name=name,
                description=facts.get(name, {}).get("description", ""),
                memory_bytes=facts.get(name, {}).get("memory_bytes", 0),
                budget_bytes=budget,
                holdings=tuple(sorted(_holdings(name, own), key=lambda one: one.is_reserved)),
            )
            for name, budget in node.budgets.items()
        ),
    )


def _holdings(device: str, replicas: Iterable[Replica]) -> Iterable[Holding]:
    for row in replicas:
        held = int(row.needed_bytes.get(device, 0))
        if held:
            yield Holding(row.version.key, held, row.state not in _SERVING)


def _shown_replicas() -> Iterable[Replica]:
    """All but those that nobody wants and that left nothing to tell."""
    at_rest = Q(desired=Replica.Desired.ABSENT, state=Replica.State.STOPPED)
    return Replica.objects.select_related("version__model", "node").exclude(at_rest)


def _replica_state(row: Replica, figures: LiveFigures) -> ReplicaState:
    return ReplicaState(
        replica=row,
        figures=figures.hosts.get(str(row.launch_id), _NO_FIGURES),
        queued=figures.queued.get(row.version.key, 0),
    )
