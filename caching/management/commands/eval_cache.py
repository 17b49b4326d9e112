"""``manage.py eval_cache``: measure the guard on labelled pairs of questions."""

from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from caching.evaluation.measure import (
    FOW_CACHE,
    failures,
    fow_cache_pairs,
    measured,
    repository_pairs,
)


class Command(BaseCommand):
    help = (
        "Show how many labelled pairs of questions the canonical form and the guard serve from "
        "one answer. It fails if a trap is served, or fewer repeats than the floor."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rows = measured(chain(repository_pairs(), fow_cache_pairs()))
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
        if all(row.source != FOW_CACHE for row in rows):
            self.stdout.write(f"The package {FOW_CACHE} is not installed: its pairs are left out.")
        if found := failures(rows):
            raise CommandError("\n".join(found))
