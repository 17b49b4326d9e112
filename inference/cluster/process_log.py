"""The log of one host, so that somebody can say how it ended."""

import faulthandler
import logging
from collections import deque
from pathlib import Path
from typing import TextIO

LINES = 5
_LINE_CHARACTERS = 300
_FORMAT = "%(levelname)s %(name)s %(message)s"


class ProcessLog:
    """A file beside the liveness lock: what the host logs, and where it was when it crashed."""

    def __init__(self, folder: Path, launch_id: str) -> None:
        self._path = folder / f"host-{launch_id}.log"
        self._file: TextIO | None = None
        self._handler: logging.Handler | None = None

    @property
    def name(self) -> str:
        """Of the file."""
        return self._path.name

    def open(self) -> None:
        """Write to the file what is logged from now on, and the stacks of a fatal signal."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", buffering=1)
        self._handler = logging.StreamHandler(self._file)
        self._handler.setFormatter(logging.Formatter(_FORMAT))
        logging.getLogger().addHandler(self._handler)
        faulthandler.enable(self._file, all_threads=False)

    def last_lines(self) -> str:
        """How it ends, in a few lines; "" when there is none, as for a host of another machine."""
        try:
            with self._path.open(errors="replace") as file:
                lines = deque((line.strip() for line in file if line.strip()), maxlen=LINES)
        except FileNotFoundError:
            return ""
        return "\n".join(line[:_LINE_CHARACTERS] for line in lines)

    def remove(self) -> None:
        """Write to it no more, and delete it."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            faulthandler.disable()
        if self._file is not None:
            self._file.close()
        self._path.unlink(missing_ok=True)
