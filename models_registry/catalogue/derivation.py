"""A new version out of an old one, such as the same model in another quantisation."""

from pathlib import Path

from django.db import IntegrityError, transaction

from models_registry.catalogue.additions import require_label
from models_registry.errors import RegistryError
from models_registry.files.inspection import inspect_file
from models_registry.models import ModelVersion


def derive_version(source: ModelVersion, label: str) -> ModelVersion:
    """A version, not saved yet, that is ``source`` without a file.

    Template, sampling and runtime options are copied; whether it is the default is not.

    Raises:
        RegistryError: the label is taken or no label.
    """
    require_label(source.model, label)
    copied = (
        *ModelVersion.option_names(),
        *("context_length_tokens", "chat_template", "default_sampling"),
    )
    fields = {name: getattr(source, name) for name in copied}
    return ModelVersion(model=source.model, label=label, **fields)


def register_derived(version: ModelVersion, path: Path, sha256: str) -> None:
    """Enter a derived version whose file is at ``path``.

    Raises:
        RegistryError: the label was taken in the meantime.
        GGUFError: the file is not a usable model.
    """
    version.sha256 = sha256
    try:
        with transaction.atomic():
            inspect_file(version, path)
    except IntegrityError as error:
        raise RegistryError(f"{version.key} was registered meanwhile by somebody else.") from error
