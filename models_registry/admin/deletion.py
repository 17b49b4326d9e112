"""What goes with a row that is deleted in the admin, and what keeps it."""

from collections.abc import Iterable
from typing import Any, Final

from django.http import HttpRequest

from models_registry.admin.base import RegistryAdmin
from models_registry.models import (
    Download,
    Model,
    ModelVersion,
    Node,
    Prediction,
    Registration,
    Replica,
)

# How replicas and registrations know the rows of a page.
_PATHS: Final[dict[type, str]] = {Model: "version__model", ModelVersion: "version", Node: "node"}
_HISTORY: Final = (Download, Replica, Registration, Prediction)
_GONE: Final = (Replica.State.STOPPED, Replica.State.FAILED)


class Deletion(RegistryAdmin):
    """A page of models, versions or nodes: their history goes with them, what is in use stays.

    Pages of downloads, replicas, registrations and predictions let nobody delete theirs one by
    one, which Django would take for a reason to keep whatever they belong to.
    """

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """As Django's; what is in use is among the protected, with what to do about it."""
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        history = {table._meta.verbose_name for table in _HISTORY}
        return deleted, counts, lacking - history, [*protected, *_uses(self.model, objs)]


def _uses(table: type, rows: Iterable[Any]) -> list[str]:
    """What uses rows of ``table``, a sentence each."""
    own = {f"{_PATHS[table]}__in": list(rows)}
    replicas = Replica.objects.select_related("version__model", "node")
    live = replicas.filter(**own).exclude(state__in=_GONE)
    uses = [f"{replica} is {replica.state}: unload it first." for replica in live]
    if table is not Node:
        claims = Registration.objects.filter(released_at__isnull=True, **own)
        uses += [f"The registration {claim} is in use: release it first." for claim in claims]
    return uses
