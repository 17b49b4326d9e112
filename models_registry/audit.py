"""The audit trail: who changed which row of the registry, and when.

Entries are django-auditlog's, made by its signals on ``save()`` and ``delete()``. A queryset's
``update()`` sends no signals: hosts and the controller use it for what they observe many times a
minute, and nobody else should. For the same reason fields that cannot be edited, which is how
observations are declared, are left out.
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
    """Note ``actor`` with every change made in this block.

    Args:
        actor: a user; None or an anonymous one leaves whoever acts already.
    """
    if actor is None:
        yield
        return
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def start_audit() -> None:
    """Begin to track the registry in this process; called once, when Django starts."""
    for table in TRACKED:
        edited = [field.name for field in table._meta.concrete_fields if field.editable]
        auditlog.register(table, include_fields=edited)
    # That it was asked for, and that somebody stopped it; what becomes of it is observed.
    auditlog.register(models.Download, include_fields=["version", "cancelled_by"])
    pre_save.connect(_note_actor, sender=LogEntry, dispatch_uid="registry_actor")


def _note_actor(instance: LogEntry, **_: Any) -> None:
    actor = _actor.get()
    if actor is not None and actor.is_authenticated:
        instance.actor, instance.actor_email = actor, actor.email
    # What did it: "manage.py seed_registry", say. Further words may be private.
    program = [Path(sys.argv[0]).name, *sys.argv[1:2]]
    instance.additional_data = {"program": " ".join(program)}
