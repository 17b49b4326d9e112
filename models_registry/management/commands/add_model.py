"""``manage.py add_model``: register a GGUF file from anywhere and load it."""

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
    """Copies the file into the models directory, so that the original may go."""

    help = (
        "Register a GGUF file as a model: manage.py add_model my-model /path/to/file.gguf, or a "
        "source URL in place of the path."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add id, path and what differs from the defaults."""
        parser.add_argument("slug", metavar="ID", help="what requests send as model")
        parser.add_argument("source", help="a path or a source URL, such as hf://owner/repo/file")
        parser.add_argument("--label", default="", help="of the version; default: v1, or the type")
        parser.add_argument("--sha256", default="", help="of the file, where it is known")
        parser.add_argument("--kv-cells", type=int, default=16_384, help="tokens of KV cache")
        parser.add_argument("--max-sequences", type=int, default=32)
        parser.add_argument("--gpu-layers", type=int, default=-1, help="-1 for all")
        parser.add_argument("--no-load", action="store_true", help="register only")

    def handle(self, *args: Any, slug: str, source: str, no_load: bool, **options: Any) -> None:
        """Read a local file's header first: what is no model never enters the registry."""
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
    """A version whose file is at a path or a source URL."""
    name, label, url = "", options["label"], source
    if "://" not in source:
        path = Path(source).resolve()
        header = read_header(path)
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
