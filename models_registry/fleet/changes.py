"""The decisions of the residency plan, written into the fleet's rows."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from models_registry.catalogue.lookup import find_version
from models_registry.fleet.footprints import (
    is_news,
    late_bytes,
    mapped_bytes,
    note_footprint,
    options_of,
)
from models_registry.fleet.memory import CPU
from models_registry.models import Footprint, Node, Replica
from models_registry.plan.facts import OCCUPYING
from models_registry.plan.plan import Start

# The columns of a replica that a decision about it depends on.
_PLANNED_FOR: Final = ("desired", "on_demand", "launch_id", "state")


def row_for(start: Start, holding: Collection[int] = ()) -> Replica | None:
    """The row in which a replica is to be started, wanted from now on; None if it was deleted.

    Rows of ``holding`` still have a process, whose memory a new launch would hide.
    """
    if start.replica_id is not None:
        return _replicas().filter(pk=start.replica_id).first()
    version = find_version(start.version)
    node = Node.objects.filter(name=start.node).first()
    if version is None or node is None:
        return None
    with transaction.atomic():
        unwanted = _locked().filter(version=version, node=node, desired=Replica.Desired.ABSENT)
        at_rest = unwanted.exclude(state__in=OCCUPYING).exclude(pk__in=holding).first()
        at_rest = at_rest or Replica.objects.create(version=version, node=node)
        at_rest.on_demand = start.on_demand
        _decide(at_rest, Replica.Desired.RESIDENT, on_demand=start.on_demand, state_since=Now())
    return _replicas().filter(pk=at_rest.pk).first()


def retire(seen: Replica, reason: str) -> bool:
    """Mark a replica to leave memory; a reason of "" leaves the row's reason unchanged.

    False where its row differs from ``seen``: a person or its host was faster than the plan.
    """
    planned = {name: getattr(seen, name) for name in _PLANNED_FOR}
    with transaction.atomic():
        replica = _locked().filter(pk=seen.pk, **planned).first()
        if replica is None:
            return False
        _decide(replica, Replica.Desired.ABSENT, **({"reason": reason} if reason else {}))
    return True


def _decide(replica: Replica, desired: str, **fields: Any) -> None:
    """Write the plan's wish, with an audit entry if a person or a setting is behind the replica."""
    if not replica.on_demand and replica.desired != desired:
        replica.desired = desired
        replica.save(update_fields=["desired"])
    Replica.objects.filter(pk=replica.pk).update(desired=desired, **fields)


def explain(replicas: Iterable[Replica], reasons: Mapping[str, str]) -> None:
    """Write into the row of each replica that waits for room why it does; by version key."""
    waits = {"desired": Replica.Desired.RESIDENT, "state": Replica.State.STOPPED}
    for replica in replicas:
        reason = reasons.get(replica.version.key, "")
        is_waiting = all(getattr(replica, name) == value for name, value in waits.items())
        if is_waiting and reason != replica.reason:
            # It may have been started since it was read.
            Replica.objects.filter(pk=replica.pk, **waits).update(reason=reason)


def measure(
    replica: Replica, private_bytes: int, footprints: Mapping[tuple[int, str], Footprint]
) -> None:
    """Correct what is set aside for a replica on the CPU by what its process holds.

    After the load the buffers of a step are not touched yet, so their estimate is added. The
    estimate stays on a GPU, and where the version has other options by now than were loaded.
    """
    if set(replica.needed_bytes) != {CPU}:
        return
    version, node = replica.version, replica.node
    options = options_of(version, replica.placed_on, node.cpu_features)
    if options != replica.loaded_options:
        return
    loaded = private_bytes if replica.resident_bytes is None else replica.resident_bytes
    holds = max(loaded + late_bytes(version, node), private_bytes)
    needed, known = holds + mapped_bytes(version, node), replica.needed_bytes[CPU]
    # A change of less than a hundredth is not worth a write each second.
    if abs(needed - known) > needed * 0.01:
        Replica.objects.filter(pk=replica.pk).update(needed_bytes={CPU: needed})
    if is_news(footprints.get((version.pk, options)), holds):
        note_footprint(version, options, holds)


def _locked() -> QuerySet[Replica]:
    # Without order_by, the default order would join version and node, and lock them as well.
    return Replica.objects.select_for_update().order_by("pk")


def _replicas() -> QuerySet[Replica]:
    return Replica.objects.select_related("version__model", "node")
