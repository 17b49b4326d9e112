"""Tests of paired answers: pure."""

from collections.abc import Iterable, Mapping
from math import comb
from typing import NamedTuple


class Paired(NamedTuple):
    """Two arms on the same items: how many there are, and who alone is right how often."""

    items: int
    wins: int
    losses: int

    @property
    def difference(self) -> float:
        """The difference of the shares that are right."""
        return (self.wins - self.losses) / self.items if self.items else 0.0

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
    losses = sum(theirs[item] and not ours[item] for item in both)
    return Paired(len(both), wins, losses)


def holm(p_values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The p-values of a family of tests, corrected for their number by Holm."""
    ordered = sorted(p_values, key=lambda one: one[1])
    corrected, least = dict[str, float](), 0.0
    for place, (name, value) in enumerate(ordered):
        least = max(least, min(1.0, value * (len(ordered) - place)))
        corrected[name] = least
    return corrected


def verdict(corrected_p: float, to_single: Paired, to_votes: Paired) -> str:
    """Say in two words or one whether a mode is worth its tokens."""
    if corrected_p >= 0.05 or to_single.wins == to_single.losses:
        return "not shown"
    if to_single.wins < to_single.losses:
        return "costs"
    return "pays" if to_votes.difference > 0 else "not shown"
