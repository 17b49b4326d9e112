"""``manage.py eval_modes``: compare modes with single answers, on items that can be checked."""

import asyncio
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress

from inference_site.tools.bench.client import open_session
from inference_site.tools.bench.target import TargetError, resolve_target
from inference_site.tools.evaluation.records import ITEMS, FileError, Results, read_items
from inference_site.tools.evaluation.report import markdown
from inference_site.tools.evaluation.runner import Runner

MODES: Final = ("critique", "debate", "ensemble", "pipeline")


class Command(BaseCommand):
    help = (
        "Measure whether several answers are better than one, on a running service: accuracy, "
        "tokens and seconds of each mode, against single answers and against a vote that takes "
        "as many tokens. Writes a Markdown table. It may take hours; --results keeps the answers. "
        "Begin a new file of results when the members of a preset change."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--base-url", help="address of the API, with or without /v1")
        parser.add_argument("--api-key", help="bearer token")
        parser.add_argument("--model", default="smollm2-135m", help="it gives the single answers")
        parser.add_argument("--modes", nargs="*", choices=MODES, help="of the model with itself")
        parser.add_argument("--presets", nargs="*", help="presets to measure, such as L2 L3")
        parser.add_argument("--items", type=Path, default=ITEMS, help="your own items: JSON lines")
        parser.add_argument("--limit", type=int, help="only the first items")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--concurrency", type=int, default=8, help="requests at a time")
        parser.add_argument("--votes", type=int, default=16, help="single answers to an item")
        parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one request")
        parser.add_argument("--results", type=Path, help="keep answers here, and go on from them")
        parser.add_argument("--output", type=Path, help="write the table here, too")

    def handle(self, *args: Any, **options: Any) -> None:
        for name in ("limit", "concurrency", "votes", "timeout"):
            if options[name] is not None and options[name] <= 0:
                raise CommandError(f"--{name} must be more than 0.")
        try:
            table = asyncio.run(_measured(options))
        except (TargetError, FileError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        self.stdout.write(table)
        if options["output"]:
            options["output"].write_text(table)


async def _measured(options: dict[str, Any]) -> str:
    """Collect the missing answers; return the table of all."""
    target = resolve_target(
        settings.BRIGADE_HOME,
        base_url=options["base_url"],
        api_key=options["api_key"],
        model=options["model"],
    )
    presets = options["presets"] or []
    modes = options["modes"] or (() if presets else MODES)
    arms: dict[str, dict[str, Any]] = {mode: {"orchestration_mode": mode} for mode in modes}
    arms |= {preset: {"model": preset} for preset in presets}
    items = read_items(options["items"])[: options["limit"]]
    numbers, results = (options["seed"], options["votes"]), Results(options["results"])
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("answers")

        def advance(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        async with open_session(options["timeout"]) as session:
            runner = Runner(session, target, items, arms, *numbers, results, advance)
            await runner.collect(options["concurrency"])
    return await asyncio.to_thread(markdown, runner)
