"""The output of all processes: together on one screen, and in one log file per process."""

from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from inference_site.embedded.files import open_log

_STYLES = ("cyan", "green", "magenta", "yellow", "blue", "bright_red")
_LARGEST_LOG_BYTES = 10 * 1024 * 1024


class Screen:
    """Shows lines after the name of their process, and writes them to ``directory/<name>.log``.

    A log over ``largest_log_bytes`` becomes ``<name>.log.1``.
    """

    def __init__(
        self,
        console: Console,
        directory: Path,
        names: list[str],
        largest_log_bytes: int = _LARGEST_LOG_BYTES,
    ) -> None:
        self._console = console
        self._width = max(map(len, names), default=0)
        self._styles = {name: _STYLES[index % len(_STYLES)] for index, name in enumerate(names)}
        self._paths = {name: directory / f"{name}.log" for name in names}
        self._largest_log_bytes = largest_log_bytes
        self._logs: dict[str, BinaryIO] = {name: self._open(name) for name in names}

    def line(self, name: str, content: bytes) -> None:
        """Show and log one line of process ``name``; ``content`` has no line end."""
        log = self._logs[name]
        log.write(content + b"\n")
        if log.tell() > self._largest_log_bytes:
            log.close()
            self._logs[name] = self._open(name)
        text = Text().append(f"{name:<{self._width}} │ ", style=self._styles[name])
        text.append_text(Text.from_ansi(content.decode(errors="replace")))
        self._console.print(text, soft_wrap=True, highlight=False)

    def say(self, text: str, style: str = "bold") -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def log_path(self, name: str) -> Path:
        return self._paths[name]

    def close(self) -> None:
        for log in self._logs.values():
            log.close()

    def _open(self, name: str) -> BinaryIO:
        return open_log(self._paths[name], self._largest_log_bytes)
