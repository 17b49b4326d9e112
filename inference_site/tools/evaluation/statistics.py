"""Tests of paired answers: pure."""

from collections.abc import Mapping
from math import comb
from typing import NamedTuple


class Paired(NamedTuple):
    """Two arms on the same items: how many there are, and how often one alone is right."""

    items: int
    wins: int
    losses: int

    @property
    def points(self) -> float:
        """The difference of the shares that are right, in points."""
        return 100 * (self.wins - self.losses) / self.items if self.items else 0.0

    @property
    def p_value(self) -> float:
        """The two-sided exact test of McNemar: wins and losses as throws of a fair coin."""
        thrown = self.wins + self.losses
        tail = sum(comb(thrown, count) for count in range(min(self.wins, self.losses) + 1))
        return min(1.0, 2 * tail / 2**thrown)


def paired(ours: Mapping[str, bool], theirs: Mapping[str, bool]) -> Paired:
    """Compare two arms on the items that both have answered."""
    both = ours.keys() & theirs.keys()
    wins = sum(ours[item] and not theirs[item] for item in both)
    return Paired(len(both), wins, sum(theirs[item] and not ours[item] for item in both))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values of a family of tests, corrected for their number by Holm."""
    corrected, least = dict[str, float](), 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, p_values[name] * (len(p_values) - place)))
        corrected[name] = least
    return corrected


def verdict(corrected_p: float, to_single: Paired, to_vote: Paired) -> str:
    """Say whether a mode is worth its tokens: pays, costs, or not shown."""
    if corrected_p < 0.05 and to_single.points < 0:
        return "costs"
    return "pays" if corrected_p < 0.05 and to_vote.points > 0 else "not shown"
