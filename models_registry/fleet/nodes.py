"""Machines: what they show of themselves, and where a version is to be loaded."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from django.utils import timezone

from models_registry.errors import NeverFitsError, RegistryError
from models_registry.fleet.footprints import CPU, measured_footprints, placements_of
from models_registry.fleet.live_figures import Subjects, read_figures
from models_registry.models import ModelVersion, Node, Replica
from models_registry.models.fleet import DEFAULT_MEMORY_SHARE
from models_registry.plan.facts import OCCUPYING, Placement
from models_registry.plan.reasons import NO_NODE, format_bytes

# Of a GPU others may use a little; what is kept for llama.cpp's own context is in the rest.
_USUAL_GPU_SHARE: Final = 0.9
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class DeviceFacts:
    """A device of a machine: ``cpu`` or as in ``cuda:0``, with the size of its memory."""

    name: str
    description: str
    memory_bytes: int


@dataclass(frozen=True)
class NodeFacts:
    """What a machine found out about itself."""

    gpus: tuple[DeviceFacts, ...] = ()
    cpu_features: tuple[str, ...] = ()


def register_this_node(
    name: str, max_replicas: int, budget_bytes: int = 0, facts: NodeFacts | None = None
) -> Node:
    """Enter the machine this runs on, or bring what is known of it up to date.

    Args:
        name: of the node.
        max_replicas: hosts it may run.
        budget_bytes: of main memory for models; 0 for four fifths of it.
        facts: of its devices; None leaves what is known.
    """
    memory_bytes = usable_memory_bytes()
    fields = {
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": memory_bytes,
        "max_replicas": max_replicas,
        "seen_at": timezone.now(),
    }
    node = Node.objects.filter(name=name).first()
    known = node.devices if node else []
    cpu = asdict(DeviceFacts("cpu", "", memory_bytes)) | {
        "budget_bytes": budget_bytes or int(memory_bytes * DEFAULT_MEMORY_SHARE)
    }
    if facts is None:
        fields["devices"] = [cpu, *(device for device in known if device["name"] != "cpu")]
    else:
        fields["cpu_features"] = list(facts.cpu_features)
        fields["devices"] = [
            cpu,
            *(
                asdict(gpu) | {"budget_bytes": int(gpu.memory_bytes * _USUAL_GPU_SHARE)}
                for gpu in facts.gpus
            ),
        ]
    return Node.objects.update_or_create(name=name, defaults=fields)[0]


def usable_memory_bytes(limits: Sequence[Path] = _CGROUP_LIMITS) -> int:
    """Main memory of this machine, or of the container it is."""
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
    """Those of ``nodes`` whose cluster takes tasks now; all where that cannot be seen."""
    known = list(nodes)
    figures = read_figures(Subjects((), (), [node.name for node in known]))
    if figures.fault:
        return known
    return [node for node in known if node.name in figures.alive_nodes]


def pick_node(version: ModelVersion) -> Node:
    """The machine to load a version on: one that wants it, else the one with most room for it.

    Only machines that answer count.

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
    """Why a version can never be in memory on a node, in numbers; "" when it can.

    A version whose file was not read yet is given the benefit of the doubt.
    """
    return faults_of(version, [node])[node]


def faults_of(version: ModelVersion, nodes: Iterable[Node]) -> dict[Node, str]:
    """``fault_of`` for several nodes, from one look at what was measured."""
    measured = measured_footprints([version.pk])
    return {node: _fault(version, node, placements_of(version, node, measured)) for node in nodes}


def _fault(version: ModelVersion, node: Node, places: Sequence[Placement]) -> str:
    if not node.max_replicas:
        return f"{node.name} may run no hosts. Raise its max replicas in the admin."
    if not places or any(_fits(place, node) for place in places):
        return ""
    place = places[0]
    for device, need in place.needs.items():
        budget = node.budgets.get(device)
        if budget is None:
            return f"{node.name} has no {device}."
        if need > budget:
            return (
                f"{version.key} needs {format_bytes(need)} of {device} memory, but {node.name} "
                f"may use {format_bytes(budget)} for models."
            )
    return ""


def _fits(place: Placement, node: Node) -> bool:
    return all(need <= node.budgets.get(device, -1) for device, need in place.needs.items())


def _room_for(version: ModelVersion, nodes: Sequence[Node]) -> dict[Node, tuple[bool, bool, int]]:
    """How well a version would be off on each node, to compare.

    Whether it fits without putting others out, whether it would be on a GPU, and the bytes that it
    would leave free of the device that most of it is on: in the best of its places. Room on a GPU
    is none for a model on the CPU.
    """
    held: dict[tuple[int, str], int] = defaultdict(int)
    hosts: dict[int, int] = defaultdict(int)
    for replica in Replica.objects.filter(node__in=nodes, state__in=sorted(OCCUPYING)):
        hosts[replica.node_id] += 1
        for device, count in replica.needed_bytes.items():
            held[replica.node_id, device] += count
    measured = measured_footprints([version.pk])
    # Of a file that was not read yet nothing is known but that it can be on the CPU.
    unread = (Placement("", CPU, {CPU: 0}),)

    def comfort(place: Placement, node: Node) -> tuple[bool, bool, int]:
        left = {
            device: node.budgets.get(device, 0) - held[node.pk, device] - need
            for device, need in place.needs.items()
        }
        main = max(place.needs, key=lambda device: place.needs[device])
        fits = min(left.values()) >= 0 and hosts[node.pk] < node.max_replicas
        return fits, place.needs.keys() != {CPU}, left[main]

    return {
        node: max(
            comfort(place, node) for place in placements_of(version, node, measured) or unread
        )
        for node in nodes
    }
