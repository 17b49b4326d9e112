"""Add models and versions, from a source URL or from another version."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from models_registry.audit import acting
from models_registry.errors import LabelError, RegistryError
from models_registry.files.inspection import inspect_file
from models_registry.models import Model, ModelVersion, Source
from models_registry.rules.names import validate_label
from models_registry.sources import check_url
from models_registry.sources.readers import s3


def require_label(model: Model, label: str) -> None:
    """Raise ``LabelError`` if ``label`` is invalid or taken."""
    try:
        validate_label(label)
    except ValidationError as error:
        raise LabelError(f"{label!r} is not a valid label. {error.message}") from error
    if not model._state.adding and model.versions.filter(label=label).exists():
        raise LabelError(f"{model.slug}@{label} is registered already. Choose another label.")


def is_open_bucket(url: str) -> bool:
    """Whether the bucket of an ``s3://`` URL also has a source from the admin or a terminal.

    Others are closed to the API, since the service reads buckets with its own credentials.

    Raises:
        BadSourceError: the URL has another form.
    """
    bucket, _ = s3.parse(url)
    entered = Source.objects.filter(only_public=False, url__startswith="s3://")
    return any(s3.parse(one)[0] == bucket for one in entered.values_list("url", flat=True))


def add_version(
    slug: str,
    label: str,
    url: str,
    *,
    name: str = "",
    sha256: str = "",
    only_public: bool = False,
    actor: Any = None,
    **options: Any,
) -> ModelVersion:
    """Register a version with a source, without downloading the file.

    A missing model is added under ``name``, or its slug if that is empty. The first version of a
    model becomes its default. ``sha256`` is the file's, in hex; if empty, the first download sets
    it. ``only_public`` refuses private addresses. ``options`` are runtime options of the version.

    Raises:
        RegistryError: the version exists already, or a name is invalid.
        BadSourceError: the URL or ``sha256`` has a wrong form.
    """
    sha256 = check_url(url, sha256 or None) or ""
    model = Model.objects.filter(slug=slug).first() or Model(slug=slug, name=name or slug)
    require_label(model, label)
    try:
        with acting(actor), transaction.atomic():
            if model._state.adding:
                _save(model)
            version = ModelVersion(
                model=model,
                label=label,
                # Not the name in the URL, which may be the same on several servers.
                file_name=f"{slug}@{label}.gguf",
                is_default=not model.versions.filter(is_default=True).exists(),
                sha256=sha256,
                **options,
            )
            _save(version)
            _save(Source(version=version, url=url, only_public=only_public))
    except ValidationError as error:
        raise RegistryError(" ".join(error.messages)) from error
    except IntegrityError as error:
        raise _registered_meanwhile(f"{slug}@{label}") from error
    return version


def _save(row: Model | ModelVersion | Source) -> None:
    row.full_clean()
    row.save()


def derive_version(source: ModelVersion, label: str) -> ModelVersion:
    """An unsaved copy of ``source`` without its file and rollout. Raises ``LabelError``."""
    require_label(source.model, label)
    copied = (
        *ModelVersion.option_names(),
        *("context_length_tokens", "chat_template", "default_sampling"),
    )
    fields = {name: getattr(source, name) for name in copied}
    return ModelVersion(model=source.model, label=label, **fields)


def register_derived(version: ModelVersion, path: Path, sha256: str) -> None:
    """Save a derived version whose file is at ``path``.

    Raises:
        RegistryError: the label was taken in the meantime.
        GGUFError: the file is not a usable model.
    """
    version.sha256 = sha256
    try:
        with transaction.atomic():
            inspect_file(version, path)
    except IntegrityError as error:
        raise _registered_meanwhile(version.key) from error


def _registered_meanwhile(version_key: str) -> RegistryError:
    return RegistryError(f"{version_key} was registered by somebody else in the meantime.")
