"""How long a download waits, and how often it tries again: numbers and pure rules."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_PROGRESS_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Patience:
    """Limits of a download over HTTP.

    Attributes:
        connect_seconds: For a connection to come about.
        silence_seconds: Without any byte, until the connection counts as dead.
        slow_seconds, slow_bytes_per_second: A connection that brings less than this for so long
            counts as dead too; curl calls them `--speed-time` and `--speed-limit`.
        attempts: Tries in a row that bring the file no further.
        first_pause_seconds, longest_pause_seconds: The pause doubles from one to the other.
        longest_retry_after_seconds: A server that asks for more is not waited for.
        clock, sleep, chance: Time and luck, for tests to replace; `chance` is within [0, 1).
    """

    connect_seconds: float = 10
    silence_seconds: float = 30
    slow_seconds: float = 60
    slow_bytes_per_second: float = 1024
    attempts: int = 6
    first_pause_seconds: float = 1
    longest_pause_seconds: float = 60
    longest_retry_after_seconds: float = 600
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = field(default=random.random)

    def pause_seconds(self, failures: int, retry_after_seconds: float | None) -> float:
        """How long to wait after so many failures in a row.

        What the server asks for, else exponential backoff with half of it left to chance, so that
        many clients of one server do not come back all at once.
        """
        if retry_after_seconds is not None:
            return retry_after_seconds
        pause = min(self.first_pause_seconds * 2 ** (failures - 1), self.longest_pause_seconds)
        return pause * (0.5 + 0.5 * self.chance())


class Failures:
    """Counts tries that brought the file no further; any real progress starts the count afresh."""

    def __init__(self) -> None:
        self.count = 0
        self._furthest_bytes = 0

    def note(self, reached_bytes: int) -> int:
        """Count a failure at this length of the file; how many in a row that makes."""
        if reached_bytes >= self._furthest_bytes + _PROGRESS_BYTES:
            self._furthest_bytes, self.count = reached_bytes, 0
        self.count += 1
        return self.count


class Pace:
    """Notices a connection that is alive, but too slow to ever end."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = patience.clock()
        self._bytes = 0

    def is_too_slow(self, received_bytes: int) -> bool:
        """Count bytes that have come; whether they were too few over the last window."""
        self._bytes += received_bytes
        elapsed = self._patience.clock() - self._since
        if elapsed < self._patience.slow_seconds:
            return False
        too_slow = self._bytes < elapsed * self._patience.slow_bytes_per_second
        self._since, self._bytes = self._patience.clock(), 0
        return too_slow
