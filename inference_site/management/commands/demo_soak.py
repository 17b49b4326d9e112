"""``manage.py demo_soak``: mixed traffic and kills, and a ledger that is exact in the end."""

import asyncio
import contextlib
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.table import Table

from inference_site.tools.demo.home import enter_own_home, leave_own_home
from inference_site.tools.demo.killer import kill_in_turn
from inference_site.tools.demo.mixed_traffic import MixedTraffic, Told
from inference_site.tools.demo.service import DemoError, api_key, base_url, running_service

MODELS = ("smollm2-135m", "gemma3-270m")
# So long the ledger may take to learn the end of everything.
SETTLE_SECONDS = 180
PRICE = {
    "prompt_usd_per_million_tokens": "0.1",
    "completion_usd_per_million_tokens": "0.4",
    "usd_per_device_hour": "0.05",
}
ENVIRONMENT = {"INFERENCE_PRELOAD_MODELS": ",".join(MODELS), "INFERENCE_MAX_QUEUE_SIZE": "500"}


class Command(BaseCommand):
    """Run a service in a temporary home."""

    requires_system_checks: list[str] = []
    help = (
        "Show that the ledger is exact: streams, whole answers, clients that leave and bad "
        "requests to two models, while a host, the web process, Redis and Postgres are killed in "
        "turn. Exit status 1 if a record is missing, double or differs from what a client was told."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=900.0, help="length of the traffic")
        parser.add_argument("--rate", type=float, default=2.0, help="requests a second")
        parser.add_argument("--kill-every", type=float, default=60.0, metavar="SECONDS")
        parser.add_argument("--seed", type=int, default=1, help="of the random numbers")

    def handle(self, *args: Any, **options: Any) -> None:
        enter_own_home(ENVIRONMENT)
        console = Console(stderr=True)
        try:
            with running_service() as log:
                console.print(f"The service answers at {base_url()}; its log is {log}.")
                _fetch(console)
                traffic, kills = asyncio.run(_soak(options, console))
                is_exact = _check(console)
                wrong = _wrong(traffic.told)
        except DemoError as error:
            raise CommandError(str(error)) from error
        finally:
            leave_own_home(console)
        table = Table("what became of the requests", "count")
        for name, count in sorted(traffic.counts.items()):
            table.add_row(name, str(count))
        console.print(table)
        for text in wrong:
            console.print(text, style="red")
        result = {
            "requests": sum(traffic.counts.values()),
            "answers_compared": len(traffic.told),
            "answers_that_differ": len(wrong),
            "kills": kills,
            "ledger_is_exact": is_exact,
            "outcomes": dict(traffic.counts),
        }
        self.stdout.write(json.dumps(result))
        if wrong or not is_exact:
            raise SystemExit(1)


def _fetch(console: Console) -> None:
    from models_registry.catalogue.lookup import find_version
    from models_registry.files.terminal import fetch_with_bar
    from models_registry.models import ModelVersion, Price

    for slug in MODELS:
        version = find_version(slug)
        if version is None:
            raise DemoError(f"The registry does not know {slug}.")
        if version.file_state != ModelVersion.FileState.READY:
            fetch_with_bar(console, version, settings.INFERENCE.models_dir)
        Price.objects.create(version=version, valid_from=timezone.now(), **PRICE)


async def _soak(options: dict[str, Any], console: Console) -> tuple[MixedTraffic, list[str]]:
    traffic = MixedTraffic(base_url(), api_key(), MODELS, options["rate"], options["seed"])
    kills: list[str] = []
    killing = asyncio.create_task(kill_in_turn(options["kill_every"], kills, console))
    try:
        await traffic.run(options["seconds"])
    finally:
        killing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killing
    return traffic, kills


def _check(console: Console) -> bool:
    """Whether ``ledger_check`` finds no difference once everything has settled."""
    from django.db import connection

    connection.close()  # of before Postgres was killed
    try:
        call_command("ledger_check", wait=SETTLE_SECONDS)
    except CommandError as error:
        console.print(str(error), style="red")
        return False
    return True


def _wrong(told: list[Told]) -> list[str]:
    """Answers whose records have other counts than their clients were told, or none or two."""
    from metrics.models import RequestRecord

    found: dict[str, list[RequestRecord]] = {}
    for record in RequestRecord.objects.all():
        found.setdefault(record.run_id, []).append(record)
    texts = []
    for one in told:
        records = found.get(one.run_id, [])
        counts = [(record.prompt_tokens, record.completion_tokens) for record in records]
        if counts != [(one.prompt_tokens, one.completion_tokens)]:
            texts.append(f"{one}: the ledger has {counts}")
    return texts
