"""``manage.py add_model``: register a GGUF file and load it."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from models_registry.catalogue.additions import add_version
from models_registry.errors import RegistryError
from models_registry.files.terminal import fetch_with_bar
from models_registry.fleet.desired import load
from models_registry.fleet.nodes import pick_node
from models_registry.gguf.reader import GGUFError, read_header
from models_registry.models import ModelVersion
from models_registry.sources import SourceError


class Command(BaseCommand):
    help = (
        "Register a GGUF file as a model and load it: manage.py add_model my-model "
        "/path/to/file.gguf. A source URL may replace the path. The file is copied."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", metavar="ID", help="the value of model in requests")
        parser.add_argument("source", help="a path or a source URL, such as hf://owner/repo/file")
        parser.add_argument("--label", default="", help="of the version; default: v1, or the type")
        parser.add_argument("--sha256", default="", help="of the file, if known")
        parser.add_argument("--kv-cells", type=int, default=16_384, help="tokens of KV cache")
        parser.add_argument("--max-sequences", type=int, default=32)
        parser.add_argument("--gpu-layers", type=int, default=-1, help="-1 for all")
        parser.add_argument("--no-load", action="store_true", help="register only")

    def handle(self, *args: Any, slug: str, source: str, no_load: bool, **options: Any) -> None:
        try:
            version = _register(slug, source, options)
            console = Console(stderr=True)
            fetch_with_bar(console, version, settings.INFERENCE.models_dir)
            if not no_load:
                load(version, pick_node(version))
        except (GGUFError, SourceError, RegistryError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{version.key} is registered{'' if no_load else ' and being loaded'}.")


def _register(slug: str, source: str, options: dict[str, Any]) -> ModelVersion:
    name, label, url = "", options["label"], source
    if "://" not in source:
        path = Path(source).resolve()
        header = read_header(path)  # refuses other files before anything is registered
        name, url = header.name or "", path.as_uri()
        label = label or header.quantisation.lower()
    return add_version(
        slug,
        label or "v1",
        url,
        name=name,
        sha256=options["sha256"],
        kv_cells=options["kv_cells"],
        max_sequences=options["max_sequences"],
        gpu_layers=options["gpu_layers"],
    )
