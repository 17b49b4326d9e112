"""Names of models, versions and their files."""

import re
from pathlib import Path
from typing import Final

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from models_registry.errors import RegistryError

# \Z and not $, which would let a line feed at the end through.
validate_slug: Final = RegexValidator(
    r"^[a-z0-9][a-z0-9._-]*\Z", "Use lower-case letters, digits, '.', '_' and '-'."
)
validate_label: Final = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}\Z", "Use up to 50 letters, digits, '.', '_' and '-'."
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def validate_file_name(value: str) -> None:
    if _CONTROL.search(value):
        raise ValidationError("File names cannot contain control characters.")
    if {"", ".", ".."} & set(value.split("/")):
        raise ValidationError(
            "Name a file below the models directory, such as folder/model.gguf, without '//', '.', "
            "'..' or a '/' at either end."
        )


def path_below(models_dir: Path, file_name: str) -> Path:
    """The path of a version's file; symbolic links are trusted and not resolved.

    Raises:
        RegistryError: the name leads out of the directory; rows may be older than their validator.
    """
    try:
        validate_file_name(file_name)
    except ValidationError as error:
        raise RegistryError(f"{file_name!r}: {' '.join(error.messages)}") from error
    return models_dir / file_name
