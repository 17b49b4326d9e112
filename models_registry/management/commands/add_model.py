"""``manage.py add_model``: register a GGUF file of one's own and load it."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from models_registry.gguf import GGUFError, GGUFHeader, read_header
from models_registry.models import Model, ModelVersion, Source
from models_registry.services import RegistryError, fetch_file, load, pick_node
from models_registry.sources.errors import SourceError
from models_registry.terminal import fetch_with_bar


class Command(BaseCommand):
    """Copies the file into the models directory, so that the original may go."""

    help = "Register a GGUF file as a model: manage.py add_model my-model /path/to/file.gguf"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add id, path and what differs from the defaults."""
        parser.add_argument("slug", metavar="ID", help="what requests send as model")
        parser.add_argument("path", type=Path)
        parser.add_argument("--kv-cells", type=int, default=16_384, help="tokens of KV cache")
        parser.add_argument("--max-sequences", type=int, default=32)
        parser.add_argument("--gpu-layers", type=int, default=-1, help="-1 for all")
        parser.add_argument("--no-load", action="store_true", help="register only")

    def handle(self, *args: Any, slug: str, path: Path, no_load: bool, **options: Any) -> None:
        """Read the header first: a file that is no model never enters the registry."""
        try:
            header = read_header(path)
            version = _register(slug, path, header, options)
            console = Console(stderr=True)
            fetch_with_bar(console, version, settings.INFERENCE.models_dir, fetch_file)
            if not no_load:
                load(version, pick_node())
        except (GGUFError, SourceError, RegistryError, OSError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        self.stdout.write(f"{version.key} is registered{'' if no_load else ' and being loaded'}.")


def _register(slug: str, path: Path, header: GGUFHeader, options: dict[str, Any]) -> ModelVersion:
    """Rows for the file; a first version of a model becomes its default."""
    is_embedding = not header.causal or header.pooling_type is not None
    model = Model.objects.filter(slug=slug).first()
    if model is None:
        kind = Model.Type.EMBEDDING if is_embedding else Model.Type.TEXT_GENERATION
        model = Model(slug=slug, name=header.name or slug, type=kind)
        model.full_clean()
        model.save()
    label = header.quantisation.lower() or "v1"
    version, created = ModelVersion.objects.get_or_create(
        model=model,
        label=label,
        defaults={
            "file_name": path.name,
            "is_default": not model.versions.filter(is_default=True).exists(),
            "kv_cells": options["kv_cells"],
            "max_sequences": options["max_sequences"],
            "gpu_layers": options["gpu_layers"],
        },
    )
    if not created:
        raise RegistryError(
            f"{version.key} is registered already. Choose another id, or change it in the admin."
        )
    Source.objects.create(version=version, url=path.resolve().as_uri())
    return version
