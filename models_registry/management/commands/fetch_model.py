"""``manage.py fetch_model``: download the files of versions."""

from argparse import ArgumentParser
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from models_registry.catalogue.lookup import find_version
from models_registry.errors import RegistryError
from models_registry.files.terminal import AT_ONCE, fetch_with_bars
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion
from models_registry.sources import SourceError

_INTERRUPTED: Final = 130  # the shell's status after Ctrl-C


class Command(BaseCommand):
    help = (
        "Download model files, several at once, and verify existing ones. Names: model or "
        "model@version; without names, every missing file that has a source. Ctrl-C stops, and "
        "the next call continues."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*")
        parser.add_argument(
            "--at-once", type=int, default=AT_ONCE, help=f"files at once (default: {AT_ONCE})"
        )

    def handle(self, *args: Any, names: list[str], at_once: int, **options: Any) -> None:
        if at_once < 1:
            raise CommandError("--at-once must be 1 or more.")
        versions = self._versions(names)
        models_dir = settings.INFERENCE.models_dir
        try:
            errors = fetch_with_bars(Console(stderr=True), versions, models_dir, at_once)
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. Run the same command again to continue.", returncode=_INTERRUPTED
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
