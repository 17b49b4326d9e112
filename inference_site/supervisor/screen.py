"""One screen and one log file a process for all that the processes write."""

from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from inference_site.embedded.logs import open_log

_STYLES = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")
_LARGEST_LOG_BYTES = 10 * 1024 * 1024


class Screen:
    """Writes lines with the name of their process before them, and to ``<name>.log`` without."""

    def __init__(
        self,
        console: Console,
        directory: Path,
        names: list[str],
        largest_log_bytes: int = _LARGEST_LOG_BYTES,
    ) -> None:
        """Open the logs.

        Args:
            console: where people look.
            directory: of the log files; made when missing.
            names: the processes; they decide width and colour.
            largest_log_bytes: a log that is longer becomes ``<name>.log.1`` and begins anew.
        """
        self._console = console
        self._width = max(map(len, names), default=0)
        self._styles = {name: _STYLES[index % len(_STYLES)] for index, name in enumerate(names)}
        self._paths = {name: directory / f"{name}.log" for name in names}
        self._largest_log_bytes = largest_log_bytes
        self._logs: dict[str, BinaryIO] = {name: self._open(name) for name in names}

    def line(self, name: str, content: bytes) -> None:
        """Show and keep one line of process ``name``, without its line end."""
        log = self._logs[name]
        log.write(content + b"\n")
        if log.tell() > self._largest_log_bytes:
            log.close()
            self._logs[name] = self._open(name)
        text = Text().append(f"{name:<{self._width}} │ ", style=self._styles[name])
        text.append_text(Text.from_ansi(content.decode(errors="replace")))
        self._console.print(text, soft_wrap=True, highlight=False)

    def say(self, text: str, style: str = "bold") -> None:
        """Show a line of the supervisor's own."""
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def log_path(self, name: str) -> Path:
        """Where the lines of ``name`` are kept."""
        return self._paths[name]

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs.values():
            log.close()

    def _open(self, name: str) -> BinaryIO:
        return open_log(self._paths[name], self._largest_log_bytes)
