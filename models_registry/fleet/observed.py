"""Observed state: what hosts report of their replicas."""

import uuid
from typing import Any

from django.db.models.functions import Now

from models_registry.fleet.footprints import options_of
from models_registry.models import Replica


def observe(launch_id: uuid.UUID, state: str, **fields: Any) -> bool:
    """Record the state of a launch; False when it has failed or is not the newest: it must end."""
    replicas = Replica.objects.filter(launch_id=launch_id).exclude(state=Replica.State.FAILED)
    return bool(replicas.update(state=state, state_since=Now(), **fields))


def note_progress(launch_id: uuid.UUID, load_fraction: float) -> None:
    """Record the progress of a load; ``state_since`` becomes now, so that a stalled load shows."""
    loading = Replica.objects.filter(launch_id=launch_id, state=Replica.State.LOADING)
    loading.update(load_fraction=load_fraction, state_since=Now())


def begin_launch(replica_id: int, launch_id: uuid.UUID, process_id: int) -> Replica | None:
    """Take up an announced launch; None when it is out of date or was taken up already."""
    taken = Replica.objects.filter(
        pk=replica_id, launch_id=launch_id, state=Replica.State.STARTING
    ).update(
        state=Replica.State.LOADING, state_since=Now(), process_id=process_id, load_fraction=0.0
    )
    if not taken:
        return None
    found = Replica.objects.select_related("version__model", "version__draft_model__model", "node")
    replica = found.get(pk=replica_id)
    # The row that the host reads now may be edited while it loads.
    replica.loaded_options = options_of(
        replica.version, replica.placed_on, replica.node.cpu_features
    )
    replica.save(update_fields=["loaded_options"])
    return replica
