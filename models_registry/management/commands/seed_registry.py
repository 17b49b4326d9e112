"""``manage.py seed_registry``: bring the registry up to date with the seed file."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.table import Table

from models_registry.catalogue.seeding import seed_registry


class Command(BaseCommand):
    """May be run again: what somebody changed or deleted stays as it is."""

    help = "Bring models, presets and routes up to date with the seed; your own changes stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the way back for what was deleted."""
        parser.add_argument("--restore", action="store_true", help="add what was deleted again")

    def handle(self, *args: Any, restore: bool, **options: Any) -> None:
        """Seed, and show what that did."""
        report = seed_registry(restore=restore)
        table = Table("", "rows", "which")
        table.add_row("added", str(len(report.added)), _abridged(report.added))
        table.add_row("updated", str(len(report.updated)), _abridged(report.updated))
        table.add_row("kept, since edited", str(len(report.kept)), _abridged(report.kept))
        table.add_row(
            "kept away, since deleted", str(len(report.deleted)), _abridged(report.deleted)
        )
        Console(file=self.stdout).print(table)  # type: ignore[arg-type]


def _abridged(names: list[str], limit: int = 12) -> str:
    more = len(names) - limit
    return "\n".join(names[:limit] + ([f"and {more} more"] if more > 0 else []))
