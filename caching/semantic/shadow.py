"""Decisions about comparisons: which hits are compared, what agrees, and when hits must stop."""

import math
import re
from dataclasses import dataclass
from typing import Final

LIMIT: Final = 0.005
# With fewer, one wrong answer among the first 35 would be enough to stop.
_FEWEST_WRONG: Final = 3
_SAME_MEANING: Final = 0.9
_Z: Final = 1.96
_NUMBER: Final = re.compile(r"(?:(?<!\w)[-\u2212])?\d+(?:[.,:/]\d+)*")


@dataclass(frozen=True)
class Tally:
    """The comparisons of a version and preset, and how many of them do not agree."""

    version_key: str
    preset: str
    comparisons: int
    wrong: int

    @property
    def is_stopped(self) -> bool:
        """Tell whether too many hits are wrong to serve more."""
        return self.wrong >= _FEWEST_WRONG and wilson(self.wrong, self.comparisons)[0] > LIMIT


def is_compared(comparisons: int, draw: float) -> bool:
    """Tell whether the model answers the question of a hit as well.

    ``comparisons`` is their number so far for the version and preset, ``draw`` a random number
    from 0 up to 1.
    """
    return draw < (0.10 if comparisons < 500 else 0.01)


def agreement(answer_a: str, answer_b: str, similarity: float) -> bool:
    """Tell whether two answers say the same, by texts, numbers and the cosine of their vectors."""
    if answer_a.casefold().split() == answer_b.casefold().split():
        return True
    numbers = sorted(_NUMBER.findall(answer_a)) == sorted(_NUMBER.findall(answer_b))
    return numbers and similarity >= _SAME_MEANING


def wilson(wrong: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a ratio, by Wilson; from 0 to 1 without data."""
    if not total:
        return 0.0, 1.0
    ratio, spread = wrong / total, _Z * _Z / total
    middle = ratio + spread / 2
    half = _Z * math.sqrt(ratio * (1 - ratio) / total + spread / (4 * total))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
