"""The log file of one host, and its last lines for a controller on another machine."""

import faulthandler
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import redis

from inference.cluster.liveness import LivenessLock, abandoned_launches
from inference.queue import keys

LINES = 5
_LINE_CHARACTERS = 300
_FORMAT = "%(levelname)s %(name)s %(message)s"
# After so long the files of a dead host are removed, whether or not a controller read the lines.
KEPT_SECONDS = 600


class HostLog:
    """A file beside the liveness lock: log records, and the stack after a fatal signal."""

    def __init__(self, folder: Path, launch_id: str) -> None:
        self._path = folder / f"host-{launch_id}.log"
        self.name = self._path.name
        self._handler: logging.StreamHandler[TextIO] | None = None

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = logging.StreamHandler(self._path.open("a", buffering=1))
        self._handler.setFormatter(logging.Formatter(_FORMAT))
        logging.getLogger().addHandler(self._handler)
        faulthandler.enable(self._handler.stream, all_threads=False)

    def last_lines(self) -> str:
        """Return the end of the file; "" when it is absent, as for a host of another machine."""
        try:
            with self._path.open(errors="replace") as file:
                lines = deque((line.strip() for line in file if line.strip()), maxlen=LINES)
        except FileNotFoundError:
            return ""
        return "\n".join(line[:_LINE_CHARACTERS] for line in lines)

    def remove(self) -> None:
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
            faulthandler.disable()
            self._handler.stream.close()
        self._path.unlink(missing_ok=True)


class HostLogPublisher:
    """Copies the last lines of dead hosts of this node into Redis."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._published_at: dict[str, float] = {}

    def publish(self, client: redis.Redis) -> None:
        """Publish the logs of new dead hosts; remove old files that no controller has removed."""
        now = self._clock()
        dead = abandoned_launches(self._folder)
        for launch in dead:
            log = HostLog(self._folder, launch)
            if launch not in self._published_at:
                client.set(keys.host_log(launch), log.last_lines(), ex=KEPT_SECONDS)
                self._published_at[launch] = now
            elif now - self._published_at[launch] >= KEPT_SECONDS:
                log.remove()
                LivenessLock(self._folder, launch).remove()
        self._published_at = {key: at for key, at in self._published_at.items() if key in dead}


def published_lines(client: redis.Redis, launch: str) -> str:
    """Return the last log lines of a host of any node; "" when its node has published none."""
    text: Any = client.get(keys.host_log(launch))
    return text.decode(errors="replace") if text else ""
