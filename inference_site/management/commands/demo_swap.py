"""``manage.py demo_swap``: three models, memory for two, two minutes of traffic."""

import asyncio
import contextlib
import itertools
import json
import time
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from inference_site.tools.demo.home import enter_own_home, leave_own_home
from inference_site.tools.demo.report import Report, WaitLimits, make_report
from inference_site.tools.demo.service import DemoError, api_key, base_url, running_service
from inference_site.tools.demo.traffic import Traffic
from inference_site.tools.demo.watch import Watch

MODELS = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b")
EMBEDDING_MODEL = "all-minilm-l6-v2"
ENVIRONMENT = {
    "INFERENCE_HEARTBEAT": "0.5",
    "INFERENCE_MINIMUM_DWELL": "4",
    "INFERENCE_MAXIMUM_WAIT": "8",
    # No request may end by its own timeout: the demonstration shows what else bounds the wait.
    "INFERENCE_QUEUE_TIMEOUT": "300",
    "INFERENCE_MAX_QUEUE_SIZE": "500",
}


class Command(BaseCommand):
    """Run a service in a temporary home."""

    requires_system_checks: list[str] = []
    help = (
        "Show swapping: random traffic at three priorities to three real models under a budget "
        "that holds two. A table, then one line of JSON; exit status 1 if anything failed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=120.0, help="length of the traffic")
        parser.add_argument("--rate", type=float, default=1.0, help="requests a second")
        parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
        parser.add_argument(
            "--kill-every",
            type=float,
            default=0.0,
            metavar="SECONDS",
            help="kill -9 a host that is loading or drained so often; 0 for never",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        enter_own_home(ENVIRONMENT)
        console = Console(stderr=True)
        try:
            with running_service() as log:
                console.print(f"The service answers at {base_url()}; its log is {log}.")
                budget_bytes = _prepare(console)
                report = asyncio.run(_demonstrate(budget_bytes, options))
        except DemoError as error:
            raise CommandError(str(error)) from error
        finally:
            leave_own_home(console)
        self._show(report)
        if not report.passed:
            raise SystemExit(1)

    def _show(self, report: Report) -> None:
        console = Console()
        console.print(report.table())
        console.print(report.swap_table())
        console.print(
            f"{report.swaps} swaps and {report.loads} loads in {report.seconds:g} s, a load "
            f"{report.median_load_seconds:g} s (longest {report.longest_load_seconds:g} s); "
            f"{report.failed} failed requests, {report.breaches} budget breaches; longest wait "
            f"{report.longest_wait_seconds:g} s (limit {report.wait_limit_seconds:g} s); at most "
            f"{report.peak_set_aside_bytes >> 20} MiB set aside and "
            f"{report.peak_used_bytes >> 20} MiB used of {report.budget_bytes >> 20} MiB."
        )
        for error in report.errors:
            console.print(error, style="red", markup=False)
        self.stdout.write(json.dumps(report.as_json()))


def _prepare(console: Console) -> int:
    """Fetch the models and set the memory budget; return its bytes."""
    from models_registry.catalogue.lookup import find_version
    from models_registry.files.terminal import fetch_with_bar
    from models_registry.fleet.footprints import placements_of
    from models_registry.models import ModelVersion, Node

    ModelVersion.objects.update(device="cpu")
    needs = {}
    node = Node.objects.get(name=settings.NODE_NAME)
    for slug in (EMBEDDING_MODEL, *MODELS):
        version = find_version(slug)
        if version is None:
            raise DemoError(f"The registry does not know {slug}.")
        if version.file_state != ModelVersion.FileState.READY:
            fetch_with_bar(console, version, settings.INFERENCE.models_dir)
        (place,) = placements_of(version, node, {})
        needs[slug] = place.needs["cpu"]
    pairs = [needs[one] + needs[other] for one, other in itertools.combinations(MODELS, 2)]
    budget_bytes = needs[EMBEDDING_MODEL] + max(pairs)
    if sum(needs.values()) <= budget_bytes:
        raise DemoError("The three models fit together: there would be nothing to swap.")
    Node.objects.filter(pk=node.pk).update(device_budgets={"cpu": budget_bytes})
    for slug, count in needs.items():
        console.print(f"{slug} needs {count >> 20} MiB of {budget_bytes >> 20} MiB.")
    return budget_bytes


async def _demonstrate(budget_bytes: int, options: dict[str, Any]) -> Report:
    traffic = Traffic(
        base_url(), api_key(), MODELS, EMBEDDING_MODEL, options["rate"], options["seed"]
    )
    watch = Watch(budget_bytes, options["kill_every"], options["seed"])
    watching = asyncio.create_task(watch.run())
    began = time.monotonic()
    try:
        await traffic.run(options["seconds"])
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    return make_report(
        traffic.outcomes,
        seconds=time.monotonic() - began,
        loads=watch.loads,
        evictions=watch.evictions,
        breaches=watch.breaches,
        kills=watch.kills,
        budget_bytes=budget_bytes,
        peak_set_aside_bytes=watch.peak_set_aside_bytes,
        peak_used_bytes=watch.peak_used_bytes,
        limits=WaitLimits(
            settings.INFERENCE.maximum_wait_seconds,
            settings.INFERENCE.minimum_dwell_seconds,
            settings.INFERENCE.lease_seconds,
        ),
        embedding_model=EMBEDDING_MODEL,
    )
