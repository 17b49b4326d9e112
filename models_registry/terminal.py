"""A progress bar for fetching a file, for people at a terminal."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models_registry.models import ModelVersion
from models_registry.sources.progress import Phase, ProgressCallback

Fetch = Callable[[ModelVersion, Path, ProgressCallback], None]


def fetch_with_bar(console: Console, version: ModelVersion, models_dir: Path, fetch: Fetch) -> None:
    """Run ``fetch`` and show how far it is.

    Args:
        console: where to draw; a plain line per phase when it is no terminal.
        version: whose file.
        models_dir: where to.
        fetch: ``services.fetch_file``.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{version.key}", total=version.size_bytes)

        def report(done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
            progress.update(
                bar,
                description=f"{version.key} {phase}",
                completed=done_bytes,
                total=total_bytes or version.size_bytes,
            )

        fetch(version, models_dir, report)
        progress.update(bar, description=f"{version.key} ready")
