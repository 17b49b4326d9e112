"""``manage.py fetch_model``: bring the files of versions into the models directory."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from models_registry.gguf import GGUFError
from models_registry.models import ModelVersion
from models_registry.selectors import find_version
from models_registry.services import RegistryError, fetch_file
from models_registry.sources.errors import SourceError
from models_registry.terminal import fetch_with_bar


class Command(BaseCommand):
    """Fetches what is missing, with a progress bar; a file that is there is only verified."""

    help = "Fetch model files. Names: model or model@version; none means every missing file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the names."""
        parser.add_argument("names", nargs="*")

    def handle(self, *args: Any, names: list[str], **options: Any) -> None:
        """Fetch one after the other."""
        console = Console(stderr=True)
        for version in self._versions(names):
            try:
                fetch_with_bar(console, version, settings.INFERENCE.models_dir, fetch_file)
            except (SourceError, GGUFError, RegistryError) as error:
                raise CommandError(f"{version.key}: {error}") from error

    def _versions(self, names: list[str]) -> list[ModelVersion]:
        if not names:
            versions = ModelVersion.objects.select_related("model")
            return list(versions.exclude(file_state=ModelVersion.FileState.READY))
        found = []
        for name in names:
            version = find_version(name)
            if version is None:
                raise CommandError(f"{name} is not registered. Add it in the admin first.")
            found.append(version)
        return found
