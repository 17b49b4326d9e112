"""When a process that ended is started again; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
HEALTHY_LIFE_SECONDS = 30.0


@dataclass(frozen=True)
class Life:
    """One start and end of a process, on a monotonic clock."""

    started_at: float
    ended_at: float


def restart_decision(history: Sequence[Life], now: float) -> float:
    """How many seconds from ``now`` the process is to be started.

    Each life shorter than 30 s doubles the pause after it, from 1 s up to 30 s; a longer one
    brings it back to 1 s.

    Args:
        history: the lives of the process, oldest first; empty before the first start.
        now: the time on the clock of the lives.
    """
    if not history:
        return 0.0
    short_lives = 0
    for life in reversed(history):
        if life.ended_at - life.started_at >= HEALTHY_LIFE_SECONDS:
            break
        short_lives += 1
    doublings = min(max(short_lives - 1, 0), 16)
    delay = min(FIRST_DELAY_SECONDS * 2**doublings, LONGEST_DELAY_SECONDS)
    return max(0.0, history[-1].ended_at + delay - now)
