"""The fleet at one moment, in the few columns that every controller tick needs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from models_registry.clock import database_now
from models_registry.gguf.kept import TEMPLATE_SHA256
from models_registry.gguf.reader import GGUFHeader
from models_registry.models import (
    Model,
    ModelVersion,
    Node,
    Preset,
    PresetMember,
    Registration,
    Replica,
)

_READY = ModelVersion.FileState.READY
_HEADER_KEYS = [TEMPLATE_SHA256, *(field.name for field in fields(GGUFHeader))]
_ROWS = (Node, Model, ModelVersion, Replica, Registration, Preset, PresetMember)
_TABLES = [rows._meta.db_table for rows in _ROWS]
_SUM = "(SELECT sum(hashtext(ctid::text || xmin::text)) FROM {})"
_FINGERPRINT = "SELECT " + ", ".join(map(_SUM.format, _TABLES))


@dataclass(frozen=True)
class ListedVersion:
    """``is_standing``: people want it in memory whether requests come or not.

    ``lacks_facts``: its file is there, but an older release kept less of the header than this one.
    """

    id: int
    key: str
    file_name: str
    is_loadable: bool
    is_standing: bool
    lacks_facts: bool


@dataclass(frozen=True)
class Snapshot:
    """``taken_at`` is by the database's clock, which every writer of a state uses."""

    nodes: Sequence[Node]
    versions: Sequence[ListedVersion]
    replicas: Sequence[Replica]
    taken_at: datetime

    @property
    def version_keys(self) -> list[str]:
        return [version.key for version in self.versions]

    @property
    def loadable_keys(self) -> set[str]:
        return {version.key for version in self.versions if version.is_loadable}

    @property
    def incomplete_files(self) -> dict[int, str]:
        return {version.id: version.file_name for version in self.versions if version.lacks_facts}


def take_snapshot() -> Snapshot:
    replicas = list(Replica.objects.annotate(seen_at=Now()).order_by("pk"))
    nodes = {node.pk: node for node in Node.objects.order_by("name")}
    for replica in replicas:
        if replica.node_id in nodes:
            replica.node = nodes[replica.node_id]
    return Snapshot(
        nodes=[node for node in nodes.values() if node.seen_at],
        versions=_listed_versions(),
        # A replica whose node was deleted between the two queries is deleted, too.
        replicas=[replica for replica in replicas if replica.node_id in nodes],
        taken_at=replicas[0].seen_at if replicas else database_now(),
    )


def registry_fingerprint() -> object:
    """A value that changes when a row that the controller reads is added, changed or deleted:
    a changed row has another place in its table (ctid) and another transaction's number (xmin).
    """
    with connection.cursor() as cursor:
        cursor.execute(_FINGERPRINT)
        return cursor.fetchone()


def version_keys() -> list[str]:
    named = ModelVersion.objects.order_by().values_list("model__slug", "label")
    return [f"{slug}@{label}" for slug, label in named]


def _listed_versions() -> list[ListedVersion]:
    lacks_facts = (
        Q(header__isnull=True)
        | Q(kv_bytes_per_token__isnull=True)
        | ~Q(header__has_keys=_HEADER_KEYS)
    )
    versions = ModelVersion.objects.annotate(lacks_facts=lacks_facts).order_by()
    rows = versions.values_list(
        *("pk", "model__slug", "label", "file_name", "file_state"),
        *("pinned", "preload_workers", "lacks_facts"),
    )
    return [
        ListedVersion(
            id_,
            f"{slug}@{label}",
            file_name,
            is_loadable=state == _READY,
            is_standing=pinned or preload_workers > 0,
            lacks_facts=lacks_facts and state == _READY,
        )
        for id_, slug, label, file_name, state, pinned, preload_workers, lacks_facts in rows
    ]
