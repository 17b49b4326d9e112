"""``manage.py demo_usage``: a believable month of usage, to look at the reports."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console

from inference_site.tools.demo.usage import NotEmptyError, make_usage

DAYS = 30


class Command(BaseCommand):
    help = (
        "Fill an empty installation with invented teams, users, keys and a month of requests, and "
        "compute their totals. Nothing is sent to a model."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        console = Console(stderr=True)
        try:
            made = make_usage(timezone.now(), DAYS)
        except NotEmptyError as error:
            raise CommandError(str(error)) from error
        console.print(f"{made:,} requests were made up. See the pages under Reports in the admin.")
