"""New models and versions from a source that somebody names."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from models_registry.audit import acting
from models_registry.errors import LabelError, RegistryError
from models_registry.models import Model, ModelVersion, Source
from models_registry.rules.names import validate_label
from models_registry.sources import check_url
from models_registry.sources.readers import s3


def require_label(model: Model, label: str) -> None:
    """Raise ``LabelError`` unless a version of ``model`` can be called ``label``."""
    try:
        validate_label(label)
    except ValidationError as error:
        raise LabelError(f"{label!r} is no label. {error.message}") from error
    if not model._state.adding and model.versions.filter(label=label).exists():
        raise LabelError(f"{model.slug}@{label} is registered already. Choose another label.")


def is_open_bucket(url: str) -> bool:
    """Whether a source that was entered in the admin, or at a terminal, is in the same S3 bucket.

    The service reads buckets with its own credentials, which whoever has a key of the API does not
    have.

    Args:
        url: an ``s3://`` URL.

    Raises:
        BadSourceError: it does not have that form.
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
    """Register a version whose file comes from ``url``; a model's first becomes its default.

    The file is not fetched yet, and is then called after the version, so that two of one name
    on different servers are kept apart.

    Args:
        slug: the model, which is added unless it exists.
        label: of the version.
        url: a source URL.
        name: of a new model; the slug if empty.
        sha256: of the file in hex; "" to take what comes, which is then pinned.
        only_public: whether the source may lead to public addresses alone.
        actor: the user who adds it, for the audit trail.
        options: runtime options of the version.

    Raises:
        RegistryError: the version exists already, or a name cannot be one.
        BadSourceError: the URL has no form that can be fetched, or ``sha256`` is none.
    """
    sha256 = check_url(url, sha256 or None) or ""
    model = Model.objects.filter(slug=slug).first() or Model(slug=slug, name=name or slug)
    require_label(model, label)
    try:
        with acting(actor), transaction.atomic():
            if model._state.adding:
                model.full_clean()
                model.save()
            version = ModelVersion(
                model=model,
                label=label,
                file_name=f"{slug}@{label}.gguf",
                is_default=not model.versions.filter(is_default=True).exists(),
                sha256=sha256,
                **options,
            )
            version.full_clean()
            version.save()
            source = Source(version=version, url=url, only_public=only_public)
            source.full_clean()
            source.save()
    except ValidationError as error:
        raise RegistryError(" ".join(error.messages)) from error
    except IntegrityError as error:
        raise RegistryError(f"{slug}@{label} was registered meanwhile by somebody else.") from error
    return version
