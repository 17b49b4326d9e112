"""Which version of a model requests get, changed on behalf of somebody."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from models_registry.audit import acting
from models_registry.errors import RegistryError
from models_registry.models import Model, ModelVersion


def set_default(version: ModelVersion, actor: Any = None) -> None:
    """Make ``version`` what requests get that name only its model.

    New requests go to it at once; those that run finish on the version they have. A canary that
    becomes the default has no share any more.

    Args:
        version: of whichever model.
        actor: the user who wants it, for the audit trail.

    Raises:
        RegistryError: its file is not there.
    """
    _require_file(version)
    begin_default(version, actor)


def begin_default(version: ModelVersion, actor: Any = None) -> None:
    """As ``set_default``, whether or not the file is there: for the seed, which fetches later."""
    with acting(actor), transaction.atomic():
        current = _locked_default(version.model_id)
        if current is not None and current.pk != version.pk:
            current.default_until = timezone.now()
        _move_default(current, version)


def roll_back(model: Model, actor: Any = None) -> ModelVersion:
    """Return to the default before; again, to the one before that.

    Returns:
        The version that is the default now.

    Raises:
        RegistryError: no other version was the default before, or its file is not there.
    """
    with acting(actor), transaction.atomic():
        current = _locked_default(model.pk)
        earlier = model.versions.filter(default_until__isnull=False, is_default=False)
        version = earlier.order_by("default_until").last()
        if version is None:
            raise RegistryError(
                f"{model} has had no other default version. Choose one and make it the default."
            )
        _require_file(version)
        _move_default(current, version)
    return version


def deprecate(version: ModelVersion, note: str = "", actor: Any = None) -> None:
    """Have answers of ``version`` carry a warning; its canary share ends.

    Args:
        version: of whichever model.
        note: why, and what to use instead.
        actor: the user who wants it, for the audit trail.
    """
    with acting(actor):
        version.is_deprecated, version.deprecation_note = True, note
        version.canary_percent = 0
        version.save(update_fields=["is_deprecated", "deprecation_note", "canary_percent"])


def undo_deprecation(version: ModelVersion, actor: Any = None) -> None:
    """Have ``version`` answer without a warning again."""
    with acting(actor):
        version.is_deprecated, version.deprecation_note = False, ""
        version.save(update_fields=["is_deprecated", "deprecation_note"])


def set_canary(version: ModelVersion, percent: int, actor: Any = None) -> None:
    """Give ``version`` a share of the requests that name only its model; 0 ends it.

    Raises:
        RegistryError: its file is not there.
        ValidationError: it is the default, is deprecated, or the shares come to more than 100 %.
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
    """Raise ``RegistryError`` unless requests for ``version`` could be answered."""
    if version.file_state != ModelVersion.FileState.READY:
        raise RegistryError(f"The file of {version} is {version.file_state}. Download it first.")


def _locked_default(model_id: int) -> ModelVersion | None:
    """The default of a model whose default nobody else changes until the transaction ends."""
    Model.objects.select_for_update().get(pk=model_id)
    return ModelVersion.objects.filter(model=model_id, is_default=True).first()


def _move_default(current: ModelVersion | None, version: ModelVersion) -> None:
    """Save ``version`` as the default instead of ``current``: the old one first, since there can
    be only one."""
    if current is not None and current.pk != version.pk:
        current.is_default = False
        current.save(update_fields=["is_default", "default_until"])
    version.is_default, version.default_until, version.canary_percent = True, None, 0
    version.save(update_fields=["is_default", "default_until", "canary_percent"])
