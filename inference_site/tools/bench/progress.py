"""Shows a run on the terminal while it goes on."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from inference_site.tools.bench.runner import LiveCounts

REFRESH_SECONDS = 0.5


class LiveProgress:
    """A progress line for each run.

    A task of the event loop draws it twice a second, not a thread, so that drawing takes little
    from the measured server.

    Args:
        console: nothing is drawn when it is not a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def watch(self, title: str, requests: int, counts: LiveCounts) -> Iterator[None]:
        """Draw while the block runs, inside a running event loop."""
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console, auto_refresh=False) as progress:
            bar = progress.add_task(title, total=requests, note=counts.phase)
            drawing = asyncio.get_running_loop().create_task(_draw(progress, bar, counts))
            try:
                yield
            finally:
                drawing.cancel()
                _update(progress, bar, counts)


async def _draw(progress: Progress, bar: TaskID, counts: LiveCounts) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            _update(progress, bar, counts)
            await asyncio.sleep(REFRESH_SECONDS)


def _update(progress: Progress, bar: TaskID, counts: LiveCounts) -> None:
    note = counts.phase
    if counts.started_seconds:
        elapsed = max(time.perf_counter() - counts.started_seconds, 1e-9)
        note = f"{counts.pieces / elapsed:.0f} pieces/s"
    if counts.failed:
        note += f"  {counts.failed} failed"
    progress.update(bar, completed=counts.done, note=note)
    progress.refresh()
