"""Why a version is not in memory, in words with numbers: pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from models_registry.plan.facts import Placement, ReplicaView, VersionView
from models_registry.plan.ledger import HOSTS, Ledger, full_needs
from models_registry.plan.victims import Versions, is_kept

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))
NO_NODE = "No machine runs a models cluster. Start one: manage.py cluster models"
NEARLY = "So little is lacking that it is waited for: what models hold is measured, and varies."


@dataclass(frozen=True)
class Reason:
    """Why requests wait for a version.

    ``is_final`` says that waiting helps nobody; they should be told at once, and that they may try
    again in ``retry_after_seconds``, None where nothing tells when. With ``spares_begun`` that is
    not for those who have a part of their answer: they wait until their own time is over.
    """

    text: str
    is_final: bool = False
    retry_after_seconds: float | None = None
    spares_begun: bool = False


def format_bytes(count: int) -> str:
    """``1.2 GiB`` or ``384 MiB``."""
    for size, unit in _UNITS:
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count} bytes"


def shortage(
    version: VersionView,
    placement: Placement,
    replicas: Sequence[ReplicaView],
    versions: Versions,
    ledger: Ledger,
    *,
    is_final: bool,
) -> Reason:
    """Why a placement has no room.

    Args:
        version: what is to be brought in.
        placement: where; one that has no room.
        replicas: all replicas.
        versions: all versions.
        ledger: the room there is.
        is_final: whether even an empty queue would not help.
    """
    if placement.node not in ledger.budgets and not is_final:
        return Reason(f"{placement.node} does not answer. It is waited for.")
    budget = ledger.budget_of(placement.node)
    if budget is None:
        return Reason(f"{placement.node} does not answer.", is_final)
    for device, need in full_needs(placement.needs).items():
        free = ledger.free_bytes(placement.node, device)
        if device not in budget:
            return Reason(f"{placement.node} has no {device}.", is_final)
        if need <= free:
            continue
        held = [one for one in replicas if one.node == placement.node and one.occupies]
        if device == HOSTS:
            return Reason(
                f"{placement.node} already runs {len(held)} of {budget[HOSTS]} hosts "
                "(INFERENCE_MAX_REPLICAS).",
                is_final,
            )
        if need > budget[device]:
            return Reason(
                f"It needs {format_bytes(need)} of {device} memory, but {placement.node} may use "
                f"{format_bytes(budget[device])} for models.",
                is_final,
                retry_after_seconds=60.0,
            )
        return Reason(
            f"It needs {format_bytes(need)} of {device} memory; on {placement.node} "
            f"{format_bytes(free)} of {format_bytes(budget[device])} are free"
            f"{_held(version, device, held, versions)}.",
            is_final,
        )
    return Reason("It waits for others to be loaded first.")


def _held(
    version: VersionView, device: str, held: Sequence[ReplicaView], versions: Versions
) -> str:
    """Who holds the rest: ``, 0.4 GiB held by models that stay (a@1) and …``."""
    groups: dict[str, list[ReplicaView]] = {}
    for replica in held:
        if not replica.needs.get(device):
            continue
        if replica.is_stuck:
            name = "processes that have not ended yet"
        elif replica.is_coming and replica.version == version.key:
            name = "its other copies"
        elif is_kept(replica, version, versions):
            name = "models that stay"
        elif replica.is_leaving:
            name = "models that are leaving"
        elif replica.state != "ready":
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
