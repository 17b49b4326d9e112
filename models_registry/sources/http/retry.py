"""How long a download waits, and how often it tries again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

_PROGRESS_BYTES = 1024 * 1024


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of a download over HTTP.

    Attributes:
        silence_seconds: without any byte, until the connection counts as dead.
        slow_seconds, slow_bytes_per_second: a connection that brings less than this for so long
            counts as dead too; curl calls them `--speed-time` and `--speed-limit`.
        attempts: failed tries in a row without progress before the download fails.
        first_pause_seconds, longest_pause_seconds: the pause doubles from one to the other.
        longest_retry_after_seconds: the download fails if a server asks for a longer pause.
        clock, sleep, jitter: replaced by tests; `jitter` returns a number in [0, 1).
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
    jitter: Callable[[], float] = random.random

    def pause_seconds(self, failures: int, retry_after_seconds: float | None) -> float:
        """The pause that the server asks for, else exponential backoff, half of it random."""
        if retry_after_seconds is not None:
            return retry_after_seconds
        pause = min(self.first_pause_seconds * 2 ** (failures - 1), self.longest_pause_seconds)
        return pause * (0.5 + 0.5 * self.jitter())


class FailureCount:
    """Failed tries in a row; progress of the file by 1 MiB restarts the count."""

    def __init__(self) -> None:
        self.count = 0
        self._furthest_bytes = 0

    def add(self, reached_bytes: int) -> int:
        if reached_bytes >= self._furthest_bytes + _PROGRESS_BYTES:
            self._furthest_bytes, self.count = reached_bytes, 0
        self.count += 1
        return self.count


class RateMonitor:
    """Finds a connection that is alive, but too slow to ever end."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._since = policy.clock()
        self._bytes = 0

    def is_too_slow(self, received_bytes: int) -> bool:
        """Add received bytes; True at the end of a window with too few of them."""
        self._bytes += received_bytes
        elapsed = self._policy.clock() - self._since
        if elapsed < self._policy.slow_seconds:
            return False
        too_slow = self._bytes < elapsed * self._policy.slow_bytes_per_second
        self._since, self._bytes = self._policy.clock(), 0
        return too_slow
