"""Read again the headers of files of which an older release kept less than this one."""

import logging
from collections.abc import Mapping
from pathlib import Path

from models_registry.errors import RegistryError
from models_registry.files.inspection import inspect_file, note_failure
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion
from models_registry.rules.names import path_below

logger = logging.getLogger(__name__)


def upgrade_headers(file_names: Mapping[int, str], models_dir: Path) -> None:
    """Read the headers of those files (by version id) that are on this machine into their rows."""
    # Called at every tick of the controller, which must not read rows of files on other machines.
    present = [id_ for id_, name in file_names.items() if (models_dir / name).is_file()]
    if not present:
        return
    rows = ModelVersion.objects.select_related("model").filter(pk__in=present)
    for version in rows.filter(file_state=ModelVersion.FileState.READY):
        try:
            inspect_file(version, path_below(models_dir, version.file_name))
        except (GGUFError, RegistryError) as error:
            logger.error("%s: %s", version, error)
            note_failure(version, str(error))
