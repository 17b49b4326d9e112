"""The whole fleet at one moment: nodes, replicas, queues, downloads."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q
from django.utils import timezone

from models_registry.fleet.live_figures import HostFigures, Subjects, read_figures
from models_registry.fleet.snapshot import version_keys
from models_registry.models import ACTIVE, Download, Node, Replica
from models_registry.plan.facts import OCCUPYING

# An ended download is shown for so long, so that nobody misses how it ended.
_ENDED_SHOWN: Final = timedelta(minutes=10)
_SERVING: Final = (Replica.State.READY, Replica.State.DRAINING)


@dataclass(frozen=True)
class Holding:
    """Bytes of a device that a replica holds; ``is_reserved`` while it is being loaded."""

    version_key: str
    held_bytes: int
    is_reserved: bool


@dataclass(frozen=True)
class DeviceMemory:
    name: str
    description: str
    memory_bytes: int
    budget_bytes: int
    holdings: tuple[Holding, ...]

    @property
    def used_bytes(self) -> int:
        return sum(one.held_bytes for one in self.holdings if not one.is_reserved)

    @property
    def reserved_bytes(self) -> int:
        return sum(one.held_bytes for one in self.holdings if one.is_reserved)

    @property
    def free_bytes(self) -> int:
        """Below 0 where replicas turned out larger than estimated."""
        return self.budget_bytes - self.used_bytes - self.reserved_bytes


@dataclass(frozen=True)
class NodeState:
    node: Node
    is_alive: bool
    hosts: int
    devices: tuple[DeviceMemory, ...]


@dataclass(frozen=True)
class ReplicaSummary:
    replica: Replica
    figures: HostFigures
    queued: int

    @property
    def is_serving(self) -> bool:
        return self.replica.state in _SERVING


@dataclass(frozen=True)
class Overview:
    """``queued`` goes by version key; ``fault`` says why live figures are missing, if they are."""

    seen_at: datetime
    nodes: tuple[NodeState, ...]
    replicas: tuple[ReplicaSummary, ...]
    queued: Mapping[str, int]
    downloads: tuple[Download, ...]
    fault: str = ""

    @property
    def tokens_per_second(self) -> float:
        return sum(one.figures.tokens_per_second for one in self.replicas)

    @property
    def running(self) -> int:
        return sum(one.figures.running for one in self.replicas)

    @property
    def waiting(self) -> int:
        return sum(self.queued.values())


def read_overview() -> Overview:
    now = timezone.now()
    at_rest = Q(desired=Replica.Desired.ABSENT, state=Replica.State.STOPPED)
    rows = list(Replica.objects.select_related("version__model", "node").exclude(at_rest))
    nodes = list(Node.objects.filter(seen_at__isnull=False))
    launch_ids = [str(row.launch_id) for row in rows if row.launch_id]
    figures = read_figures(Subjects(launch_ids, version_keys(), [node.name for node in nodes]))
    return Overview(
        seen_at=now,
        nodes=tuple(node_state(node, rows, node.name in figures.alive_nodes) for node in nodes),
        replicas=tuple(
            ReplicaSummary(
                row,
                figures.hosts.get(str(row.launch_id), HostFigures()),
                queued=figures.queued.get(row.version.key, 0),
            )
            for row in rows
        ),
        queued={key: count for key, count in figures.queued.items() if count},
        downloads=tuple(shown_downloads(now)),
        fault=figures.fault,
    )


def shown_downloads(now: datetime) -> Iterable[Download]:
    """Downloads that go on or ended a moment ago; newest first."""
    shown = Q(state__in=ACTIVE) | Q(finished_at__gte=now - _ENDED_SHOWN)
    return Download.objects.select_related("version__model", "requested_by").filter(shown)


def node_state(node: Node, replicas: Sequence[Replica], is_alive: bool) -> NodeState:
    """A node with the memory held by those of ``replicas`` that are on it."""
    own = [row for row in replicas if row.node_id == node.pk and row.state in OCCUPYING]
    facts = {device["name"]: device for device in node.devices}
    devices = []
    for name, budget in node.budgets.items():
        holdings = [
            Holding(row.version.key, int(row.needed_bytes[name]), row.state not in _SERVING)
            for row in own
            if row.needed_bytes.get(name)
        ]
        holdings.sort(key=lambda holding: holding.is_reserved)
        devices.append(
            DeviceMemory(
                name=name,
                description=facts.get(name, {}).get("description", ""),
                memory_bytes=facts.get(name, {}).get("memory_bytes", 0),
                budget_bytes=budget,
                holdings=tuple(holdings),
            )
        )
    return NodeState(node=node, is_alive=is_alive, hosts=len(own), devices=tuple(devices))
