"""``manage.py quantize``: register a version in another quantisation."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inference.conf import inference_settings
from inference.quantisation import QUANTISATIONS, QuantisationError, quality_warning, quantise
from models_registry.catalogue.lookup import find_version
from models_registry.catalogue.rollout import set_default
from models_registry.errors import RegistryError
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion
from models_registry.sources.errors import SourceError


class Command(BaseCommand):
    help = (
        "Quantise a version's file and register the result as a new version: "
        f"manage.py quantize smollm2-135m@q4_1 Q4_0. Types: {', '.join(QUANTISATIONS)}."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="MODEL@VERSION")
        parser.add_argument("quantisation", metavar="TYPE")
        parser.add_argument("--label", default="", help="of the new version; default: the type")
        parser.add_argument("--default", action="store_true", help="make it the model's default")

    def handle(
        self,
        *args: Any,
        source: str,
        quantisation: str,
        label: str,
        default: bool,
        **options: Any,
    ) -> None:
        version = find_version(source)
        if version is None:
            raise CommandError(f"{source} is not registered.")
        if warning := quality_warning(version):
            self.stderr.write(self.style.WARNING(warning))
        try:
            made = self._quantise(version, quantisation, label)
        except (QuantisationError, RegistryError, SourceError, GGUFError, OSError) as error:
            raise CommandError(str(error)) from error
        if default:
            set_default(made)
        size = f"{(made.size_bytes or 0) / 1e6:,.1f} MB"
        is_default = ", now the default version" if default else ""
        self.stdout.write(f"{made.key} is registered ({size}{is_default}). Load it in the admin.")

    def _quantise(self, version: ModelVersion, quantisation: str, label: str) -> ModelVersion:
        settings = inference_settings()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task(f"{version.key} to {quantisation.upper()}", total=None)
            return quantise(
                version,
                quantisation,
                models_dir=settings.models_dir,
                threads=settings.threads,
                label=label,
                on_tensor=lambda done, total: progress.update(bar, completed=done, total=total),
            )
