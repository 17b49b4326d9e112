"""Why a version is not in memory, for people: pure."""

from dataclasses import dataclass

from models_registry.plan.facts import Placement, ReplicaView, VersionView
from models_registry.plan.room import FLUCTUATION, HOSTS, Room, full_needs
from models_registry.rules.replica_state import ReplicaState

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))
NO_NODE = "No node runs a models cluster. Start one: manage.py cluster models"
# Measured memory varies by about as much.
NEARLY = f"Waiting: at most {100 * FLUCTUATION:.0f} % of the memory budget is missing."
LOADING = "It is being loaded."
LOADS_LATER = "Waiting for other models to be loaded."


@dataclass(frozen=True)
class Reason:
    text: str
    is_final: bool = False  # waiting will not help: refuse the requests
    retry_after_seconds: float | None = None  # of refused requests; None: unknown
    spares_begun: bool = False  # do not refuse a request that has a part of its answer


def format_bytes(count: int) -> str:
    """``1.2 GiB`` or ``384 MiB``."""
    for size, unit in _UNITS:
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count} bytes"


def shortage(room: Room, version: VersionView, placement: Placement, *, is_final: bool) -> Reason:
    """Why a placement does not fit now; with ``is_final`` it will not fit later either."""
    name = placement.node
    node = room.nodes.get(name)
    if not is_final and not room.is_alive(name):
        return Reason(f"Waiting for {name}, which does not answer.")
    if node is None:
        return Reason(f"{name} does not answer.", is_final)
    held = [one for one in room.replicas if one.node == name and one.occupies]
    for device, need in full_needs(placement.needs).items():
        if device not in node.budget:
            return Reason(f"{name} has no {device}.", is_final)
        free, budget = max(0, node.free[device]), node.budget[device]
        if need <= free:
            continue
        if device == HOSTS:
            used = f"{len(held)} of {budget} hosts"
            return Reason(f"{name} already runs {used} (INFERENCE_MAX_REPLICAS).", is_final)
        needed = f"It needs {format_bytes(need)} of {device} memory"
        if need > budget:
            limit = f"{name} may use {format_bytes(budget)} for models."
            return Reason(f"{needed}, but {limit}", is_final, retry_after_seconds=60.0)
        left = f"on {name} {format_bytes(free)} of {format_bytes(budget)} are free"
        return Reason(f"{needed}; {left}{_held(room, version, device, held)}.", is_final)
    return Reason(LOADS_LATER)


def _held(room: Room, version: VersionView, device: str, replicas: list[ReplicaView]) -> str:
    """``, 0.4 GiB held by models that stay (a@1) and …``."""
    groups: dict[str, list[ReplicaView]] = {}
    for replica in replicas:
        if not replica.needs.get(device):
            continue
        if replica.is_stuck:
            name = "processes that have not ended yet"
        elif replica.is_coming and replica.version == version.key:
            name = "its other copies"
        elif room.is_kept(replica, version):
            name = "models that stay"
        elif replica.is_leaving:
            name = "models that are leaving"
        elif replica.state != ReplicaState.READY:
            name = "models being loaded"
        else:
            name = "models in use"
        groups.setdefault(name, []).append(replica)
    parts = [
        f"{format_bytes(sum(one.needs[device] for one in members))} held by {name} "
        f"({', '.join(sorted({one.version for one in members}))})"
        for name, members in groups.items()
    ]
    return ", " + " and ".join(parts) if parts else ""
