"""``manage.py seed_registry``: bring the registry up to date with the seed file."""

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from models_registry.catalogue.seeding import seed_registry

_MOST_NAMES: Final = 12


class Command(BaseCommand):
    help = "Bring models, presets and routes up to date with the seed; your changes stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--restore", action="store_true", help="add deleted rows again")

    def handle(self, *args: Any, restore: bool, **options: Any) -> None:
        report = seed_registry(restore=restore)
        table = Table("", "rows", "which")
        for title, names in (
            ("added", report.added),
            ("updated", report.updated),
            ("unchanged because edited", report.kept),
            ("not added because deleted", report.deleted),
        ):
            shown = names[:_MOST_NAMES]
            if len(names) > _MOST_NAMES:
                shown = [*shown, f"and {len(names) - _MOST_NAMES} more"]
            table.add_row(title, str(len(names)), "\n".join(shown))
        Console(file=self.stdout).print(table)  # type: ignore[arg-type]
