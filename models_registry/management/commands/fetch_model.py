"""``manage.py fetch_model``: bring the files of versions into the models directory."""

from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from models_registry.catalogue.selectors import find_version
from models_registry.errors import RegistryError
from models_registry.files.terminal import AT_ONCE, fetch_with_bars
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion
from models_registry.sources import SourceError

_INTERRUPTED: Final = 130  # the shell's status after Ctrl-C


class Command(BaseCommand):
    """Fetches what is missing, with progress bars; a file that is there is only verified."""

    help = (
        "Fetch model files, several at once. Names: model or model@version; none means every "
        "missing file that has a source. Ctrl-C stops, and the next call goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the names."""
        parser.add_argument("names", nargs="*")
        parser.add_argument(
            "--at-once", type=int, default=AT_ONCE, help=f"files at once (default: {AT_ONCE})"
        )

    def handle(self, *args: Any, names: list[str], at_once: int, **options: Any) -> None:
        """Fetch all, then say what went wrong."""
        if at_once < 1:
            raise CommandError("--at-once must be 1 or more.")
        versions = self._versions(names)
        models_dir = settings.INFERENCE.models_dir
        try:
            errors = fetch_with_bars(Console(stderr=True), versions, models_dir, at_once)
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. The same command goes on from here.", returncode=_INTERRUPTED
            ) from None
        for error in errors.values():
            if not isinstance(error, SourceError | GGUFError | RegistryError):
                raise error
        if errors:
            raise CommandError("\n".join(f"{key}: {error}" for key, error in errors.items()))

    def _versions(self, names: list[str]) -> list[ModelVersion]:
        if not names:
            versions = ModelVersion.objects.select_related("model")
            missing = versions.exclude(file_state=ModelVersion.FileState.READY)
            return list(missing.filter(sources__isnull=False).distinct())
        found = []
        for name in dict.fromkeys(names):
            version = find_version(name)
            if version is None:
                raise CommandError(f"{name} is not registered. Add it in the admin first.")
            found.append(version)
        return found
