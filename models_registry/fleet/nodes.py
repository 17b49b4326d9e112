"""Machines: what they show of themselves, and where a version is to be loaded."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from django.utils import timezone

from models_registry.errors import NeverFitsError, RegistryError
from models_registry.fleet.footprints import measured_footprints, placements_of
from models_registry.fleet.live_figures import Subjects, read_figures
from models_registry.fleet.memory import CPU
from models_registry.models import ModelVersion, Node, Replica
from models_registry.models.fleet import DEFAULT_MEMORY_SHARE
from models_registry.plan.facts import OCCUPYING, Placement
from models_registry.plan.reasons import NO_NODE, format_bytes

# The rest of a GPU is for llama.cpp's own context, and the little that others may use.
_USUAL_GPU_SHARE: Final = 0.9
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class DeviceFacts:
    name: str
    description: str
    memory_bytes: int


@dataclass(frozen=True)
class NodeFacts:
    gpus: tuple[DeviceFacts, ...] = ()
    cpu_features: tuple[str, ...] = ()


def register_this_node(
    name: str, max_replicas: int, budget_bytes: int = 0, facts: NodeFacts | None = None
) -> Node:
    """Enter this machine or update its row; without ``facts`` the row keeps its devices."""
    memory_bytes = usable_memory_bytes()
    fields = {
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": memory_bytes,
        "max_replicas": max_replicas,
        "seen_at": timezone.now(),
    }
    cpu = asdict(DeviceFacts(CPU, "", memory_bytes)) | {
        "budget_bytes": budget_bytes or int(memory_bytes * DEFAULT_MEMORY_SHARE)
    }
    if facts is None:
        node = Node.objects.filter(name=name).first()
        known = node.devices if node else []
        gpus = [device for device in known if device["name"] != CPU]
    else:
        fields["cpu_features"] = list(facts.cpu_features)
        gpus = [
            asdict(gpu) | {"budget_bytes": int(gpu.memory_bytes * _USUAL_GPU_SHARE)}
            for gpu in facts.gpus
        ]
    fields["devices"] = [cpu, *gpus]
    return Node.objects.update_or_create(name=name, defaults=fields)[0]


def usable_memory_bytes(limits: Sequence[Path] = _CGROUP_LIMITS) -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in limits:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return min(physical, int(text))
    return physical


def answering(nodes: Iterable[Node]) -> list[Node]:
    """The nodes whose cluster takes tasks now; all where that cannot be seen."""
    known = list(nodes)
    figures = read_figures(Subjects((), (), [node.name for node in known]))
    if figures.fault:
        return known
    return [node for node in known if node.name in figures.alive_nodes]


def pick_node(version: ModelVersion) -> Node:
    """The answering machine to load a version on: one that wants it, else the one with most room.

    Raises:
        RegistryError: no machine runs a models cluster.
        NeverFitsError: none of them is large enough.
    """
    nodes = answering(Node.objects.filter(seen_at__isnull=False).order_by("-seen_at"))
    wanted = version.replicas.filter(desired=Replica.Desired.RESIDENT).select_related("node")
    where_wanted = [replica.node for replica in wanted if replica.node in nodes]
    if where_wanted:
        return where_wanted[0]
    if not nodes:
        raise RegistryError(NO_NODE)
    faults = faults_of(version, nodes)
    fitting = [node for node, fault in faults.items() if not fault]
    if not fitting:
        raise NeverFitsError(next(iter(faults.values())))
    room = _room_for(version, fitting)
    return max(fitting, key=lambda node: room[node])


def fault_of(version: ModelVersion, node: Node) -> str:
    """Why a version can never be in memory on a node, in numbers; "" where it may."""
    return faults_of(version, [node])[node]


def faults_of(version: ModelVersion, nodes: Iterable[Node]) -> dict[Node, str]:
    measured = measured_footprints([version.pk])
    return {node: _fault(version, node, placements_of(version, node, measured)) for node in nodes}


def _fault(version: ModelVersion, node: Node, places: Sequence[Placement]) -> str:
    if not node.max_replicas:
        return f"{node.name} may run no hosts. Raise its max replicas in the admin."
    if not places or any(
        all(need <= node.budgets.get(device, -1) for device, need in place.needs.items())
        for place in places
    ):
        return ""
    for device, need in places[0].needs.items():
        budget = node.budgets.get(device)
        if budget is None:
            return f"{node.name} has no {device}."
        if need > budget:
            return (
                f"{version.key} needs {format_bytes(need)} of {device} memory, but {node.name} "
                f"may use {format_bytes(budget)} for models."
            )
    return ""


def _room_for(version: ModelVersion, nodes: Sequence[Node]) -> dict[Node, tuple[bool, bool, int]]:
    """How much room each node has for a version in the best of its placements, to compare.

    Whether it fits without evicting others, whether it would be on a GPU, and the bytes that it
    would leave free of the device that most of it is on.
    """
    held: dict[tuple[int, str], int] = defaultdict(int)
    hosts: dict[int, int] = defaultdict(int)
    for replica in Replica.objects.filter(node__in=nodes, state__in=sorted(OCCUPYING)):
        hosts[replica.node_id] += 1
        for device, count in replica.needed_bytes.items():
            held[replica.node_id, device] += count
    measured = measured_footprints([version.pk])
    # A version whose file was not read yet can at least be on the CPU.
    unread = (Placement("", CPU, {CPU: 0}),)

    def room(place: Placement, node: Node) -> tuple[bool, bool, int]:
        left = {
            device: node.budgets.get(device, 0) - held[node.pk, device] - need
            for device, need in place.needs.items()
        }
        main = max(place.needs, key=lambda device: place.needs[device])
        fits = min(left.values()) >= 0 and hosts[node.pk] < node.max_replicas
        return fits, place.needs.keys() != {CPU}, left[main]

    return {
        node: max(room(place, node) for place in placements_of(version, node, measured) or unread)
        for node in nodes
    }
