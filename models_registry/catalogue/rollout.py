"""Change the default, canary and deprecated versions of a model.

``actor`` is the user who asks for the change, for the audit trail.
"""

from typing import Any

from django.db import transaction
from django.utils import timezone

from models_registry.audit import acting
from models_registry.errors import RegistryError
from models_registry.models import Model, ModelVersion


def set_default(version: ModelVersion, actor: Any = None, *, needs_file: bool = True) -> None:
    """Make ``version`` the default of its model; its canary share ends.

    Raises:
        RegistryError: its file is not here and ``needs_file`` is set.
    """
    if needs_file:
        _require_file(version)
    with acting(actor), transaction.atomic():
        current = _locked_default(version.model_id)
        if current is not None and current.pk != version.pk:
            current.default_until = timezone.now()
        _move_default(current, version)


def roll_back(model: Model, actor: Any = None) -> ModelVersion:
    """Make the previous default the default again, and return it.

    Raises:
        RegistryError: there was no other default, or its file is not here.
    """
    with acting(actor), transaction.atomic():
        current = _locked_default(model.pk)
        earlier = model.versions.filter(default_until__isnull=False, is_default=False)
        version = earlier.order_by("default_until").last()
        if version is None:
            raise RegistryError(
                f"{model} has had no other default version. Open a version and make it the default."
            )
        _require_file(version)
        _move_default(current, version)
    return version


def deprecate(version: ModelVersion, note: str = "", actor: Any = None) -> None:
    """Add a warning with ``note`` to answers of ``version``; its canary share ends."""
    with acting(actor):
        version.is_deprecated, version.deprecation_note = True, note
        version.canary_percent = 0
        version.save(update_fields=["is_deprecated", "deprecation_note", "canary_percent"])


def undo_deprecation(version: ModelVersion, actor: Any = None) -> None:
    with acting(actor):
        version.is_deprecated, version.deprecation_note = False, ""
        version.save(update_fields=["is_deprecated", "deprecation_note"])


def set_canary(version: ModelVersion, percent: int, actor: Any = None) -> None:
    """Give ``version`` a share of the requests without a version label; 0 ends it.

    Raises:
        RegistryError: its file is not here.
        ValidationError: it is the default or deprecated, or the shares exceed 100 %.
    """
    with acting(actor), transaction.atomic():
        Model.objects.select_for_update().get(pk=version.model_id)
        version.refresh_from_db()
        if percent:
            _require_file(version)
        version.canary_percent = percent
        others = {field.name for field in version._meta.concrete_fields} - {"canary_percent"}
        version.full_clean(exclude=others)
        version.save(update_fields=["canary_percent"])


def _require_file(version: ModelVersion) -> None:
    if version.file_state != ModelVersion.FileState.READY:
        raise RegistryError(f"The file of {version} is {version.file_state}. Download it first.")


def _locked_default(model_id: int) -> ModelVersion | None:
    """The default of a model, locked until the transaction ends."""
    Model.objects.select_for_update().get(pk=model_id)
    return ModelVersion.objects.filter(model=model_id, is_default=True).first()


def _move_default(current: ModelVersion | None, version: ModelVersion) -> None:
    # The old default first: a constraint allows only one.
    if current is not None and current.pk != version.pk:
        current.is_default = False
        current.save(update_fields=["is_default", "default_until"])
    version.is_default, version.default_until, version.canary_percent = True, None, 0
    version.save(update_fields=["is_default", "default_until", "canary_percent"])
