"""The audit trail: who changed which row of the registry, and when.

django-auditlog makes entries by the signals of ``save()`` and ``delete()``. A queryset's
``update()`` sends no signals: only hosts and the controller use it, for observations. Observed
fields are declared as not editable, and such fields are not tracked.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.db.models.signals import pre_save

from models_registry import models

TRACKED: Final = (
    models.Model,
    models.ModelVersion,
    models.Source,
    models.ContextBudget,
    models.Price,
    models.Fallback,
    models.TaskRoute,
    models.RoleAssignment,
    models.Preset,
    models.PresetMember,
    models.Node,
    models.Replica,
    models.Registration,
)
_actor: ContextVar[Any] = ContextVar("registry_actor", default=None)


@contextmanager
def acting(actor: Any) -> Iterator[None]:
    """Record ``actor``, a user, with every change in this block; None keeps the present actor."""
    if actor is None:
        yield
        return
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def start_audit() -> None:
    """Track the registry's rows in this process; called once, when Django starts."""
    for table in TRACKED:
        edited = [field.name for field in table._meta.concrete_fields if field.editable]
        auditlog.register(table, include_fields=edited)
    # Only its start and cancellation by a person; the rest is observed.
    auditlog.register(models.Download, include_fields=["version", "cancelled_by"])
    pre_save.connect(_note_actor, sender=LogEntry, dispatch_uid="registry_actor")


def _note_actor(instance: LogEntry, **_: Any) -> None:
    actor = _actor.get()
    if actor is not None and actor.is_authenticated:
        instance.actor, instance.actor_email = actor, actor.email
    # Such as "manage.py seed_registry". Further arguments may be private.
    program = [Path(sys.argv[0]).name, *sys.argv[1:2]]
    instance.additional_data = {"program": " ".join(program)}
