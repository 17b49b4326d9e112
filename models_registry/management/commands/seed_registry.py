"""``manage.py seed_registry``: bring the registry up to date with the seed file."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from models_registry.catalogue.seeding import seed_registry


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
            table.add_row(title, str(len(names)), _abridged(names))
        Console(file=self.stdout).print(table)  # type: ignore[arg-type]


def _abridged(names: list[str], limit: int = 12) -> str:
    more = len(names) - limit
    return "\n".join(names[:limit] + ([f"and {more} more"] if more > 0 else []))
