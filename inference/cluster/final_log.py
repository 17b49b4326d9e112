"""How hosts that died on one machine ended, told to the controller on another."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from inference.cluster.liveness import LivenessLock, abandoned_launches
from inference.cluster.process_log import ProcessLog
from inference.queue import keys

KEPT_SECONDS = 600
"""How long a controller, which may be away, has to read them before they and the log go."""


class LastWords:
    """What a node's cluster knows of the ends of its hosts.

    Args:
        folder: where they keep liveness locks and logs.
        clock: monotonic seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def tell(self, client: redis.Redis) -> None:
        """Put the last lines of those that died since the last time into Redis.

        A controller of this machine removes their files when it has noted the death; those that no
        controller sees go after ``KEPT_SECONDS``.
        """
        now = self._clock()
        dead = abandoned_launches(self._folder)
        for launch in dead:
            log = ProcessLog(self._folder, launch)
            if launch not in self._told_at:
                client.set(keys.last_words(launch), log.last_lines(), ex=KEPT_SECONDS)
                self._told_at[launch] = now
            elif now - self._told_at[launch] >= KEPT_SECONDS:
                log.remove()
                LivenessLock(self._folder, launch).remove()
        self._told_at = {launch: at for launch, at in self._told_at.items() if launch in dead}


def last_words(client: redis.Redis, launch: str) -> str:
    """The last lines of a host of any machine; "" where its node has not told them."""
    text: Any = client.get(keys.last_words(launch))
    return text.decode(errors="replace") if text else ""
