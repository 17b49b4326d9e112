"""What the jobs cluster does for the registry."""

import logging

from django.conf import settings

from models_registry.models import ModelVersion
from models_registry.services import fetch_file
from models_registry.sources.progress import ignore_progress

logger = logging.getLogger(__name__)


def fetch_version_file(version_id: int) -> str:
    """Bring a version's file into the models directory; a failure is kept in its row.

    Returns:
        The version's key, for django-q's record.

    Raises:
        SourceError, GGUFError, RegistryError: it could not be had; the row says why.
    """
    version = ModelVersion.objects.select_related("model").get(pk=version_id)
    fetch_file(version, settings.INFERENCE.models_dir, ignore_progress)
    logger.info("the file of %s is here", version.key)
    return version.key
