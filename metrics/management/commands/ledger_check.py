"""``manage.py ledger_check``: whether the ledger is exact."""

import time
from argparse import ArgumentParser
from typing import Any, Final

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

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

    def handle(self, *args: Any, wait: float, **options: Any) -> None:
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            deadline = time.monotonic() + wait
            while (in_progress := count_in_progress(client)) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            findings = check(client)
        self._print(in_progress, findings)
        if wait and in_progress:
            raise CommandError(f"{in_progress} requests are in progress after {wait:g} s.")
        if wrong := sum(finding.difference != 0 for finding in findings):
            raise CommandError(
                f"The ledger is not exact: {wrong} of {len(findings)} checks differ."
            )

    def _print(self, in_progress: int, findings: list[Finding]) -> None:
        row = "{:43} {:>15} {:>15} {:>12}".format
        self.stdout.write(row("check", "left", "right", "difference"))
        for each in findings:
            counts = (f"{count:,}" for count in (each.left, each.right, each.difference))
            self.stdout.write(row(each.name, *counts))
            if each.difference:
                places = ", ".join(each.places[:5]) + ("…" if len(each.places) > 5 else "")
                self.stdout.write(f"  {each.meaning} {places}")
        waits = " Tokens of the engines are compared when there are none." if in_progress else ""
        self.stdout.write(f"Requests in progress: {in_progress}.{waits}")
