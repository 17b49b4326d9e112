"""Fetch files with progress bars in a terminal."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from django.db import connection
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from models_registry.errors import FetchStoppedError
from models_registry.files.download_run import fetch_here
from models_registry.models import ModelVersion
from models_registry.sources import Phase

AT_ONCE: Final = 3


def fetch_with_bar(console: Console, version: ModelVersion, models_dir: Path) -> None:
    with _bars(console) as progress:
        _run(progress, version, models_dir, threading.Event())


def fetch_with_bars(
    console: Console, versions: Sequence[ModelVersion], models_dir: Path, at_once: int = AT_ONCE
) -> dict[str, Exception]:
    """Run ``fetch_here`` for versions, ``at_once`` in parallel; returns the errors by version key.

    Ctrl-C stops all; the next call continues.
    """
    stop = threading.Event()

    def run(version: ModelVersion) -> None:
        try:
            _run(progress, version, models_dir, stop)
        finally:
            connection.close()  # of this thread

    with _bars(console) as progress, ThreadPoolExecutor(at_once) as pool:
        futures: dict[str, Future[None]] = {}
        try:
            for version in versions:
                futures[version.key] = pool.submit(run, version)
            wait(futures.values())
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    errors = {key: future.exception() for key, future in futures.items()}
    return {key: error for key, error in errors.items() if isinstance(error, Exception)}


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _run(
    progress: Progress, version: ModelVersion, models_dir: Path, stop: threading.Event
) -> None:
    """Fetch one file; raises ``FetchStoppedError`` soon after ``stop`` is set."""
    bar = progress.add_task(version.key, total=version.size_bytes)

    def report(done_bytes: int, total_bytes: int | None, phase: Phase) -> None:
        if stop.is_set():
            raise FetchStoppedError(f"{version.key} was stopped.")
        progress.update(
            bar,
            description=f"{version.key} {phase}",
            completed=done_bytes,
            total=total_bytes or version.size_bytes,
        )

    try:
        fetch_here(version, models_dir, report)
    except Exception:
        progress.update(bar, description=f"{version.key} failed")
        raise
    progress.update(
        bar,
        description=f"{version.key} ready",
        total=version.size_bytes,
        completed=version.size_bytes or 0,
    )
