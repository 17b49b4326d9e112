"""A new version out of an old one, such as the same model in another quantisation."""

import re
from pathlib import Path
from typing import Final

from django.db import IntegrityError, transaction

from models_registry.models import ModelVersion
from models_registry.services import RegistryError, inspect_file

# Labels become part of file names.
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}")


def derive_version(source: ModelVersion, label: str) -> ModelVersion:
    """A version, not saved yet, that is ``source`` without a file.

    Template, sampling and runtime options are copied; whether it is the default is not.

    Raises:
        RegistryError: the label is taken or no label.
    """
    if not _LABEL.fullmatch(label):
        raise RegistryError(
            f"{label!r} is no label: use up to 50 letters, digits, '.', '_' and '-'."
        )
    if source.model.versions.filter(label=label).exists():
        raise RegistryError(
            f"{source.model.slug}@{label} is registered already. Choose another label."
        )
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
