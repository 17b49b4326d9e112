"""``manage.py usage``: requests, tokens and cost as a table with bars."""

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metrics.reports.formats import table_of, usage_csv
from metrics.reports.query import GROUPS, PERIODS, BadQueryError, read_query
from metrics.reports.usage import usage_report
from metrics.visibility import Visibility

_BAR: Final = 8
# A narrower terminal breaks lines itself.
_WIDEST: Final = 200
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
            self.stdout.write(usage_csv(report), ending="")
            return
        found = table_of(report)
        table = Table(box=SIMPLE_HEAD, show_footer=True, padding=(0, 1, 0, 0), pad_edge=False)
        # A terminal has no room for all columns.
        shown = [number for number, name in enumerate(found.header) if name != "Cached"]
        for number in shown:
            is_label = number < found.labels
            table.add_column(
                found.header[number].replace(" ", "\n"),
                found.total[number],
                justify="left" if is_label else "right",
                no_wrap=True,
            )
        table.add_column("")
        for line in found.lines:
            bar = "█" * round(line.percent / 100 * _BAR)
            # As text: a name may look like rich's markup.
            table.add_row(*(Text(line.cells[number]) for number in shown), Text(bar))
        Console(file=self.stdout, width=_WIDEST).print(table)  # type: ignore[arg-type]
