"""``manage.py eval_cache``: measure the guard on labelled pairs of questions."""

from itertools import chain
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from caching.evaluation.measure import (
    FOW_CACHE,
    PAIRS,
    failures,
    fow_cache_pairs,
    measured,
    pairs_of,
)


class Command(BaseCommand):
    help = (
        "Show how many labelled pairs of questions the canonical form and the guard serve from "
        "one answer. It fails if a trap is served, or fewer repeats than the floor."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--pairs",
            type=Path,
            help="measure your own pairs instead: a file of lines with 'hit' or 'trap', a kind, "
            "and two questions, separated by tabs",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["pairs"]
        try:
            known = pairs_of(path) if path else chain(pairs_of(PAIRS), fow_cache_pairs())
            rows = measured(known)
        except (OSError, ValueError) as error:
            raise CommandError(f"{path}: {error}") from error
        table = Table("source", "kind", "label")
        for name in ("pairs", "canonical form", "guard", "served", "share"):
            table.add_column(name, justify="right")
        for row in rows:
            counts = (row.pairs, row.canonical, row.guard, row.served)
            label = "trap" if row.trap else "hit"
            share = f"{row.served / row.pairs:.0%}"
            table.add_row(row.source, row.kind, label, *map(str, counts), share)
        console = Console(width=110)
        with console.capture() as capture:
            console.print(table)
        self.stdout.write(capture.get())
        if not path and all(row.source != FOW_CACHE for row in rows):
            self.stdout.write(f"The package {FOW_CACHE} is not installed: its pairs are left out.")
        if found := failures(rows):
            raise CommandError("\n".join(found))
