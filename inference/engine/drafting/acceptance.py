"""How often guessed tokens turn out right, learnt as they are checked."""

from collections.abc import Iterable
from dataclasses import dataclass

# Guesses nobody has checked yet are tried: one of two tokens is taken to be right. It counts as
# much as this many checked tokens, and so does the mean of all grades for each of them.
FIRST_CHANCE = 0.5
FIRST_WEIGHT = 4.0
# What was seen this many checks ago counts 1/e: of a grade in all sequences, and of one sequence.
GRADE_MEMORY_TOKENS = 200
SEQUENCE_MEMORY_TOKENS = 20
# So many right tokens, of a sequence that is as good as the others, one starts with.
SEQUENCE_WEIGHT = 2.0
# No guess is taken for certain.
MAX_CHANCE = 0.98


@dataclass
class _Decaying:
    """Two sums whose past fades as new terms are added."""

    keep: float
    above: float = 0.0
    below: float = 0.0

    def add(self, above: float, below: float) -> None:
        self.above = self.keep * self.above + above
        self.below = self.keep * self.below + below


class GradeAcceptance:
    """The share of right tokens of each grade, over all sequences."""

    def __init__(self, top_grade: int) -> None:
        keep = 1 - 1 / GRADE_MEMORY_TOKENS
        self._grades = [_Decaying(keep) for _ in range(top_grade + 1)]
        self._all = _Decaying(keep)

    def chance(self, grade: int) -> float:
        """The probability that a token of this grade is right, 0 to 1."""
        return _share(self._grades[grade], self.mean_chance)

    @property
    def mean_chance(self) -> float:
        """The same for a token whose grade is not known yet."""
        return _share(self._all, FIRST_CHANCE)

    def observe(self, grade: int, right: bool) -> None:
        """Take in one checked token."""
        self._grades[grade].add(right, 1.0)
        self._all.add(right, 1.0)


class SequenceAcceptance:
    """How one sequence's drafts fare against the average of their grades."""

    def __init__(self, average: GradeAcceptance) -> None:
        self._average = average
        self._fared = _Decaying(1 - 1 / SEQUENCE_MEMORY_TOKENS)

    def chances(self, grades: Iterable[int]) -> list[float]:
        """The probability of each token of a draft, given that those before it are right."""
        factor = self._factor
        return [min(MAX_CHANCE, factor * self._average.chance(grade)) for grade in grades]

    @property
    def mean_chance(self) -> float:
        """The probability of a token whose grade is not known yet."""
        return min(MAX_CHANCE, self._factor * self._average.mean_chance)

    def observe(self, grades: list[int], draft: list[int], sampled: list[int]) -> None:
        """Compare a draft, or its beginning, with the tokens sampled in its place.

        What follows the first wrong token was guessed for another text and says nothing.
        """
        for grade, guess, truth in zip(grades, draft, sampled, strict=False):
            right = guess == truth
            self._fared.add(right, self._average.chance(grade))
            self._average.observe(grade, right)
            if not right:
                return

    @property
    def _factor(self) -> float:
        return (self._fared.above + SEQUENCE_WEIGHT) / (self._fared.below + SEQUENCE_WEIGHT)


def _share(counts: _Decaying, first: float) -> float:
    return (counts.above + FIRST_WEIGHT * first) / (counts.below + FIRST_WEIGHT)
