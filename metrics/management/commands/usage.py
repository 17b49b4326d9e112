"""``manage.py usage``: requests, tokens and cost as a table with bars."""

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from metrics.reports.formats import csv_of, usage_text
from metrics.reports.query import GROUPS, PERIODS, BadQueryError, read_query
from metrics.reports.usage import Sums, usage_report
from metrics.visibility import Visibility

_OPTIONS: Final = {
    "last": "such as 12h, 30d (default) or 8w; days and weeks end with today",
    "from": "first day, or a moment such as 2026-10-25T14:00",
    "to": "last day, or a moment",
    "period": f"a row for each: {', '.join(PERIODS)}",
    "tz": "time zone, such as Europe/Berlin (default: USAGE_TIME_ZONE)",
}


class Command(BaseCommand):
    help = "The usage of all users: requests, tokens, times, errors and cost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name, text in _OPTIONS.items():
            parser.add_argument(f"--{name}", default="", help=text)
        groups = f"a row for each: {', '.join(GROUPS)}; may be repeated"
        parser.add_argument("--by", action="append", default=[], metavar="GROUP", help=groups)
        filters = "only these, such as model:smollm2-135m or user:ann; may be repeated"
        parser.add_argument("--filter", action="append", default=[], help=filters)
        parser.add_argument("--csv", action="store_true", help="CSV, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        params = {name: [options[name]] for name in _OPTIONS}
        params |= {"group": options["by"], "filter": options["filter"]}
        try:
            report = usage_report(read_query(params, timezone.now(), Visibility(everything=True)))
        except BadQueryError as error:
            raise CommandError(
                f"--{'by' if error.param == 'group' else error.param}: {error}"
            ) from error
        if options["csv"]:
            self.stdout.write(csv_of(report.query, report.rows, Sums().figures()), ending="")
        else:
            self.stdout.write(usage_text(report))
