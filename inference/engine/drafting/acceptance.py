"""Estimate the probability that drafted tokens are right, from the tokens checked so far."""

from collections.abc import Iterable
from dataclasses import dataclass

# Prior: before any check a drafted token is right with this probability. The prior counts as much
# as FIRST_WEIGHT checked tokens. The mean of all grades has the same weight in each grade.
FIRST_CHANCE = 0.5
FIRST_WEIGHT = 4.0
# A check this many checks ago counts 1/e: for a grade over all sequences, and for one sequence.
GRADE_MEMORY_TOKENS = 200
SEQUENCE_MEMORY_TOKENS = 20
# Prior of a sequence: this many right tokens where the average sequence has as many.
SEQUENCE_WEIGHT = 2.0
MAX_CHANCE = 0.98


@dataclass
class _DecayingRatio:
    keep: float
    numerator: float = 0.0
    denominator: float = 0.0

    def add(self, numerator: float, denominator: float) -> None:
        self.numerator = self.keep * self.numerator + numerator
        self.denominator = self.keep * self.denominator + denominator


class GradeAcceptance:
    """The probability that a drafted token is right, for each grade, over all sequences."""

    def __init__(self, top_grade: int) -> None:
        keep = 1 - 1 / GRADE_MEMORY_TOKENS
        self._grades = [_DecayingRatio(keep) for _ in range(top_grade + 1)]
        self._all = _DecayingRatio(keep)

    def chance(self, grade: int) -> float:
        return _share(self._grades[grade], self.mean_chance)

    @property
    def mean_chance(self) -> float:
        return _share(self._all, FIRST_CHANCE)

    def observe(self, grade: int, right: bool) -> None:
        self._grades[grade].add(right, 1.0)
        self._all.add(right, 1.0)


class SequenceAcceptance:
    """Accuracy of the drafts of one sequence, relative to the average of their grades."""

    def __init__(self, average: GradeAcceptance) -> None:
        self._average = average
        self._ratio = _DecayingRatio(1 - 1 / SEQUENCE_MEMORY_TOKENS)

    def chances(self, grades: Iterable[int]) -> list[float]:
        """The probability of each token of a draft, given that those before it are right."""
        factor = self._factor
        return [min(MAX_CHANCE, factor * self._average.chance(grade)) for grade in grades]

    @property
    def mean_chance(self) -> float:
        return min(MAX_CHANCE, self._factor * self._average.mean_chance)

    def observe(self, grades: list[int], draft: list[int], sampled: list[int]) -> None:
        """Compare a draft, or its beginning, with the sampled tokens up to the first difference."""
        for grade, guess, truth in zip(grades, draft, sampled, strict=False):
            right = guess == truth
            self._ratio.add(right, self._average.chance(grade))
            self._average.observe(grade, right)
            if not right:
                return

    @property
    def _factor(self) -> float:
        ratio = self._ratio
        return (ratio.numerator + SEQUENCE_WEIGHT) / (ratio.denominator + SEQUENCE_WEIGHT)


def _share(counts: _DecayingRatio, first: float) -> float:
    return (counts.numerator + FIRST_WEIGHT * first) / (counts.denominator + FIRST_WEIGHT)
