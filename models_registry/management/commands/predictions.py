"""``manage.py predictions``: the accuracy of the demand prediction."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from models_registry.fleet.predictions import HEADERS, MEANING, Tally, rows_of, tallies, total


class Command(BaseCommand):
    help = f"Accuracy of the demand prediction by version (INFERENCE_DEMAND_PREDICTION). {MEANING}"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=float, default=7.0, help="age of predictions (default 7)"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object, for programs")

    def handle(self, *args: Any, days: float, json: bool, **options: Any) -> None:
        if not 0 < days <= 36_500:
            raise CommandError(f"--days {days:g}: expected more than 0 and at most 36500.")
        found = tallies(timezone.now() - timedelta(days=days))
        if json:
            self.stdout.write(_json(found, days))
            return
        setting = settings.INFERENCE.demand_prediction
        self.stdout.write(f"Demand prediction: {setting}. The last {days:g} days:")
        if not found:
            self.stdout.write("No predictions.")
            return
        table = Table(*HEADERS)
        *versions, everything = rows_of(found)
        for row in versions:
            table.add_row(*row)
        table.add_section()
        table.add_row(*everything)
        Console(file=self.stdout).print(table)  # type: ignore[arg-type]


def _json(found: dict[str, Tally], days: float) -> str:
    return json.dumps(
        {
            "prediction": settings.INFERENCE.demand_prediction,
            "days": days,
            "total": _figures(total(found.values())),
            "versions": {key: _figures(tally) for key, tally in found.items()},
        }
    )


def _figures(tally: Tally) -> dict[str, float | None]:
    return asdict(tally) | {"precision": tally.precision, "recall": tally.recall}
