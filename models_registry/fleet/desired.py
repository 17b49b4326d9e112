"""Desired state: which versions people want in memory."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from models_registry.audit import acting
from models_registry.errors import NeverFitsError, RegistryError
from models_registry.fleet.nodes import fault_of
from models_registry.fleet.preloading import configured_now
from models_registry.fleet.registrations import NO_CLAIM, Claim, claims
from models_registry.models import ModelVersion, Node, Replica
from models_registry.plan.facts import OCCUPYING


def load(version: ModelVersion, node: Node, actor: Any = None) -> Replica:
    """Want ``version`` in memory on ``node``; the failures of its replicas are forgotten.

    Raises:
        NeverFitsError: it can never fit there; says by how much.
    """
    fault = fault_of(version, node)
    if fault:
        raise NeverFitsError(fault)
    with acting(actor), transaction.atomic():
        Node.objects.select_for_update().get(pk=node.pk)
        own = Replica.objects.filter(version=version, node=node)
        # A replica that is wanted already is the one that is meant: another would be a second copy.
        replica = own.filter(desired=Replica.Desired.RESIDENT).order_by("id").first()
        replica = replica or own.order_by("id").first()
        replica = replica or Replica.objects.create(version=version, node=node)
        replica.desired, replica.on_demand = Replica.Desired.RESIDENT, False
        replica.save(update_fields=["desired", "on_demand"])
        _forget_failures([replica], state_since=Now())  # it waits from now on
        _forget_failures(Replica.objects.filter(version=version, desired=Replica.Desired.ABSENT))
        replica.refresh_from_db()
        return replica


def unload(version: ModelVersion, actor: Any = None) -> int:
    """Want no replica of ``version`` in memory anywhere; see ``unload_replicas``."""
    own = Replica.objects.filter(version=version)
    count = unload_replicas(own.filter(desired=Replica.Desired.RESIDENT), actor)
    _forget_failures(own.filter(desired=Replica.Desired.ABSENT))
    return count


def unload_replicas(replicas: Iterable[Replica], actor: Any = None) -> int:
    """Want these replicas out of memory and forget their failures; returns how many they are.

    Raises:
        RegistryError: one would come back at once; says what wants it. None is unloaded then.
    """
    wanted = list(replicas)
    registered = claims()
    for version in {replica.version for replica in wanted}:
        others = version.replicas.filter(desired=Replica.Desired.RESIDENT)
        remaining = others.exclude(pk__in=[replica.pk for replica in wanted]).count()
        why = _keeper_of(version, registered.get(version.pk, NO_CLAIM), remaining)
        if why:
            raise RegistryError(f"{version.key} {why}: it would be loaded again at once.")
    with acting(actor), transaction.atomic():
        for replica in wanted:
            replica.desired = Replica.Desired.ABSENT
            replica.save(update_fields=["desired"])
        _forget_failures(wanted)
    return len(wanted)


def _forget_failures(replicas: Iterable[Replica], **fields: Any) -> None:
    """Clear failures of replicas at rest; ``state_since`` stays, as it times stuck processes."""
    rows = Replica.objects.filter(pk__in=[replica.pk for replica in replicas])
    at_rest = rows.exclude(state__in=OCCUPYING)
    at_rest.update(state=Replica.State.STOPPED, reason="", crashes=0, load_failed=False, **fields)


def _keeper_of(version: ModelVersion, claim: Claim, remaining: int) -> str:
    """Why more than the ``remaining`` replicas of a version are wanted, apart from a person."""
    is_configured = version.key in {one.key for one in configured_now()}
    keepers = (
        (int(version.pinned), "is pinned (change that at the version)"),
        (version.preload_workers, "is preloaded (lower its preload workers)"),
        (claim.preload_workers, "is registered by a program that wants it preloaded"),
        (int(is_configured), "is preloaded (INFERENCE_PRELOAD_MODELS or INFERENCE_CONFIG)"),
    )
    return next((why for count, why in keepers if count > remaining), "")
