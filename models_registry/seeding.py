"""Enter the models of the seed file into the registry, without touching what is there."""

from pathlib import Path
from typing import Any

import yaml
from django.db import transaction

from models_registry.models import Model, ModelVersion, Source

SEED_FILE = Path(__file__).parent / "seed" / "registry.yaml"


def seed_registry(path: Path = SEED_FILE) -> list[str]:
    """Add models, versions and sources that are not registered yet.

    A row that exists stays as it is, so that an administrator's edits survive; nothing is added
    to a version that exists either.

    Args:
        path: the seed file.

    Returns:
        Keys of the versions added.
    """
    added = []
    with transaction.atomic():
        for entry in yaml.safe_load(path.read_text())["models"]:
            fields = dict(entry)
            versions = fields.pop("versions")
            slug = fields.pop("slug")
            model, _ = Model.objects.get_or_create(slug=slug, defaults=fields)
            for version_entry in versions:
                version = _add_version(model, dict(version_entry))
                if version is not None:
                    added.append(version.key)
    return added


def first_run_slugs(path: Path = SEED_FILE) -> list[str]:
    """Models that a new installation fetches and loads without being asked."""
    slugs: list[str] = yaml.safe_load(path.read_text())["first_run"]
    return slugs


def _add_version(model: Model, fields: dict[str, Any]) -> ModelVersion | None:
    sources = fields.pop("sources")
    label = fields.pop("label")
    if model.versions.filter(is_default=True).exists():
        fields["is_default"] = False
    version, created = ModelVersion.objects.get_or_create(model=model, label=label, defaults=fields)
    if not created:
        return None
    Source.objects.bulk_create(
        Source(version=version, position=position, url=url) for position, url in enumerate(sources)
    )
    return version
