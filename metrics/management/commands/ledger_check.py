"""``manage.py ledger_check``: whether the ledger is exact."""

import json
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any, Final

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from metrics.ledger.check import Finding, check, count_in_progress

_POLL_SECONDS: Final = 0.2


class Command(BaseCommand):
    help = (
        "Compute all marked totals, then compare accepted requests, records, totals and the counts "
        "of the engines. All differences are 0 when the ledger is exact; otherwise the exit status "
        "is 1."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="first wait until no request is in progress; fail after so many seconds",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object, for programs")

    def handle(self, *args: Any, wait: float, json: bool, **options: Any) -> None:
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            deadline = time.monotonic() + wait
            while (in_progress := count_in_progress(client)) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            findings = check(client)
        self._print(in_progress, findings, json)
        if wait and in_progress:
            raise CommandError(f"{in_progress} requests are in progress after {wait:g} s.")
        if wrong := sum(finding.difference != 0 for finding in findings):
            raise CommandError(
                f"The ledger is not exact: {wrong} of {len(findings)} checks differ."
            )

    def _print(self, in_progress: int, findings: list[Finding], as_json: bool) -> None:
        if as_json:
            found = [asdict(finding) for finding in findings]
            self.stdout.write(json.dumps({"in_progress": in_progress, "findings": found}))
            return
        table = Table("check", "left", "right", "difference")
        for column in table.columns[1:]:
            column.justify = "right"
        for each in findings:
            table.add_row(each.name, f"{each.left:,}", f"{each.right:,}", f"{each.difference:,}")
        console = Console(file=self.stdout)  # type: ignore[arg-type]
        console.print(table)
        for each in findings:
            if each.difference:
                places = ", ".join(each.places[:5]) + ("…" if len(each.places) > 5 else "")
                console.print(f"{each.name}: {each.meaning} {places}", markup=False)
        waits = " Tokens of the engines are compared when there are none." if in_progress else ""
        console.print(f"Requests in progress: {in_progress}.{waits}")
