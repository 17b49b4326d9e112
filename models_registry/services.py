"""Write entrance of the registry: desired state from people, observed state from hosts."""

import os
import uuid
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from models_registry.gguf import read_header
from models_registry.models import Model, ModelVersion, Node, Replica
from models_registry.sources.fetch import fetch
from models_registry.sources.progress import ProgressCallback


class RegistryError(Exception):
    """The registry cannot do what was asked; the message says why and what to do."""


def load(version: ModelVersion, node: Node) -> Replica:
    """Want ``version`` in memory on ``node``; a replica that gave up gets a fresh chance.

    Raises:
        RegistryError: the node has no place for another replica.
    """
    with transaction.atomic():
        Node.objects.select_for_update().get(pk=node.pk)
        replica = Replica.objects.filter(version=version, node=node).first()
        if replica is None or replica.desired != Replica.Desired.RESIDENT:
            taken = node.replicas.filter(desired=Replica.Desired.RESIDENT).count()
            if taken >= node.max_replicas:
                raise RegistryError(
                    f"{node.name} already has {taken} of {node.max_replicas} replicas. "
                    "Unload one first, or raise INFERENCE_MAX_REPLICAS."
                )
        if replica is None:
            return Replica.objects.create(version=version, node=node)
        replica.desired = Replica.Desired.RESIDENT
        fields = ["desired"]
        if replica.state == Replica.State.FAILED:
            replica.state, replica.state_since = Replica.State.STOPPED, timezone.now()
            replica.crashes, replica.reason = 0, ""
            fields += ["state", "state_since", "crashes", "reason"]
        replica.save(update_fields=fields)
        return replica


def pick_node() -> Node:
    """The machine to load on: the one that showed itself last and has a place free.

    Raises:
        RegistryError: no machine runs a models cluster, or all are full.
    """
    nodes = Node.objects.filter(seen_at__isnull=False).order_by("-seen_at")
    for node in nodes:
        if node.replicas.filter(desired=Replica.Desired.RESIDENT).count() < node.max_replicas:
            return node
    if nodes:
        raise RegistryError("Every node holds as many replicas as it may. Unload one first.")
    raise RegistryError("No machine runs a models cluster. Start one: manage.py cluster models")


def unload(version: ModelVersion) -> int:
    """Want no replica of ``version`` in memory anywhere; returns how many were wanted."""
    return Replica.objects.filter(version=version, desired=Replica.Desired.RESIDENT).update(
        desired=Replica.Desired.ABSENT
    )


def register_this_node(name: str, max_replicas: int) -> Node:
    """Enter the machine this runs on, or bring what is known of it up to date."""
    facts = {
        "cpu_count": os.cpu_count() or 1,
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "max_replicas": max_replicas,
        "seen_at": timezone.now(),
    }
    return Node.objects.update_or_create(name=name, defaults=facts)[0]


def observe(launch_id: uuid.UUID, state: str, **fields: Any) -> bool:
    """Record what a launch of a replica does now.

    Returns:
        False when the replica has a newer launch, which this one must give way to.
    """
    replicas = Replica.objects.filter(launch_id=launch_id)
    return bool(replicas.update(state=state, state_since=timezone.now(), **fields))


def begin_launch(replica_id: int, launch_id: uuid.UUID, process_id: int) -> Replica | None:
    """Take up an announced launch.

    Returns:
        The replica, or None when the announcement is out of date or was taken up already.
    """
    taken = Replica.objects.filter(
        pk=replica_id, launch_id=launch_id, state=Replica.State.STARTING
    ).update(
        state=Replica.State.LOADING,
        state_since=timezone.now(),
        process_id=process_id,
        load_fraction=0.0,
    )
    if not taken:
        return None
    return Replica.objects.select_related("version__model", "node").get(pk=replica_id)


def fetch_file(version: ModelVersion, models_dir: Path, on_progress: ProgressCallback) -> None:
    """Bring a version's file into the models directory and note what its header says.

    Raises:
        SourceError: no source gave the file; the reason of the last one.
        GGUFError: the file is not a usable model.
        RegistryError: the version has no source and no file.
    """
    destination = models_dir / version.file_name
    sources = list(version.sources.all())
    if not sources and not destination.is_file():
        raise RegistryError(
            f"{version.key} has no source, and {destination} does not exist. "
            "Put the file there or add a source."
        )
    _set_file_state(version, ModelVersion.FileState.FETCHING)
    try:
        for position, source in enumerate(sources):
            try:
                fetch(source.url, destination, version.sha256 or None, on_progress)
                break
            except Exception:
                if position == len(sources) - 1:
                    raise
        inspect_file(version, destination)
    except Exception as error:
        _set_file_state(version, ModelVersion.FileState.FAILED, str(error))
        raise


def inspect_file(version: ModelVersion, path: Path) -> None:
    """Read the header of a version's file into its row. Raises ``GGUFError``."""
    header = read_header(path)
    version.architecture = header.architecture
    version.quantisation = header.quantisation
    version.vocabulary_size = header.vocab_size
    version.embedding_dimensions = header.embedding_length or None
    version.size_bytes = header.file_bytes
    if version.context_length_tokens is None:
        version.context_length_tokens = header.context_length or None
    if not version.chat_template:
        version.chat_template = header.chat_template or ""
    version.file_state, version.file_error = ModelVersion.FileState.READY, ""
    version.save()


def set_default(version: ModelVersion) -> None:
    """Make ``version`` what requests get that name only its model."""
    with transaction.atomic():
        Model.objects.select_for_update().get(pk=version.model_id)
        version.model.versions.update(is_default=False)
        ModelVersion.objects.filter(pk=version.pk).update(is_default=True)


def _set_file_state(version: ModelVersion, state: str, error: str = "") -> None:
    version.file_state, version.file_error = state, error
    version.save(update_fields=["file_state", "file_error"])
