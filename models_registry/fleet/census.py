"""All nodes, versions and replicas at one moment, in the columns that every look at them needs.

The controller looks twice a second. Most versions are wanted by nobody, and reading their whole
rows each time is what such a look would cost most for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from models_registry.clock import database_now
from models_registry.gguf.kept import TEMPLATE_SHA256
from models_registry.models import (
    Model,
    ModelVersion,
    Node,
    Preset,
    PresetMember,
    Registration,
    Replica,
)

_State = ModelVersion.FileState
_ROWS = (Node, Model, ModelVersion, Replica, Registration, Preset, PresetMember)
_TABLES = [rows._meta.db_table for rows in _ROWS]
_SUM = "(SELECT sum(hashtext(ctid::text || xmin::text)) FROM {})"
_MARK = "SELECT " + ", ".join(map(_SUM.format, _TABLES))


@dataclass(frozen=True)
class ListedVersion:
    """A version by its name.

    ``is_loadable`` says that its file is there; ``is_standing`` that people want it in memory
    whether requests come or not; ``lacks_facts`` that its file is there, but that an older release
    did not keep all that the header says.
    """

    id: int
    key: str
    file_name: str
    is_loadable: bool
    is_standing: bool
    lacks_facts: bool


@dataclass(frozen=True)
class Census:
    """``nodes`` have shown themselves at some time; ``replicas`` have their node at hand.

    ``taken_at`` is by the database's clock, which everybody who writes a state goes by.
    """

    nodes: Sequence[Node]
    versions: Sequence[ListedVersion]
    replicas: Sequence[Replica]
    taken_at: datetime

    @property
    def version_keys(self) -> list[str]:
        """Keys of all versions."""
        return [version.key for version in self.versions]

    @property
    def loadable_keys(self) -> set[str]:
        """Keys of the versions that can be brought in when somebody asks for them."""
        return {version.key for version in self.versions if version.is_loadable}


def take_census() -> Census:
    """Count everybody, in three narrow queries."""
    replicas = list(Replica.objects.annotate(seen_at=Now()).order_by("pk"))
    nodes = {node.pk: node for node in Node.objects.order_by("name")}
    for replica in replicas:
        if replica.node_id in nodes:
            replica.node = nodes[replica.node_id]
    return Census(
        nodes=[node for node in nodes.values() if node.seen_at],
        versions=_listed_versions(),
        # One whose node was deleted a moment ago goes with it.
        replicas=[replica for replica in replicas if replica.node_id in nodes],
        taken_at=replicas[0].seen_at if replicas else database_now(),
    )


def registry_mark() -> object:
    """A value that is another one when a row that the controller goes by was added, changed or
    deleted. A changed row is in another place of its table, and has another transaction's number.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MARK)
        return cursor.fetchone()


def version_keys() -> list[str]:
    """Keys of all versions."""
    named = ModelVersion.objects.order_by().values_list("model__slug", "label")
    return [f"{slug}@{label}" for slug, label in named]


def _listed_versions() -> list[ListedVersion]:
    lacks_facts = (
        Q(header__isnull=True)
        | Q(kv_bytes_per_token__isnull=True)
        | ~Q(header__has_key=TEMPLATE_SHA256)
    )
    rows = (
        ModelVersion.objects.annotate(lacks_facts=lacks_facts)
        .order_by()
        .values_list(
            *("pk", "model__slug", "label", "file_name", "file_state"),
            *("pinned", "preload_workers", "lacks_facts"),
        )
    )
    return [
        ListedVersion(
            id=id_,
            key=f"{slug}@{label}",
            file_name=file_name,
            is_loadable=state == _State.READY,
            is_standing=pinned or preload_workers > 0,
            lacks_facts=lacks_facts and state == _State.READY,
        )
        for id_, slug, label, file_name, state, pinned, preload_workers, lacks_facts in rows
    ]
