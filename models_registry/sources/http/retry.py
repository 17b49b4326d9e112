"""How long a download waits, and how often it tries again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

_PROGRESS_BYTES = 1024 * 1024


@dataclass(frozen=True)
class RetryPolicy:
    connect_seconds: float = 10
    # Without any byte for so long, a connection counts as dead.
    silence_seconds: float = 30
    # A slower connection counts as dead after slow_seconds, as with curl's --speed-limit.
    slow_seconds: float = 60
    slow_bytes_per_second: float = 1024
    attempts: int = 6  # in a row without progress
    first_pause_seconds: float = 1  # doubles up to the longest
    longest_pause_seconds: float = 60
    longest_retry_after_seconds: float = 600
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random  # in [0, 1)

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
