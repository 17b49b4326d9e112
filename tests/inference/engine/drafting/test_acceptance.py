"""How often guesses are right: learnt by grade over all sequences, and for each sequence."""

import pytest

from inference.engine.drafting.acceptance import (
    FIRST_CHANCE,
    MAX_CHANCE,
    GradeAcceptance,
    SequenceAcceptance,
)


def learnt(*shares: float) -> GradeAcceptance:
    """An average in which the tokens of each grade were right so often."""
    average = GradeAcceptance(len(shares) - 1)
    for number in range(1000):
        for grade, share in enumerate(shares):
            average.observe(grade, number % 10 < 10 * share)
    return average


def test_acceptance_begins_hopeful():
    average = GradeAcceptance(0)
    assert average.chance(0) == average.mean_chance == FIRST_CHANCE
    for _ in range(4):
        average.observe(0, right=False)
    assert average.chance(0) < FIRST_CHANCE / 1.9


def test_acceptance_of_grades_is_learnt_apart():
    average = learnt(0.2, 0.9)
    assert average.chance(0) == pytest.approx(0.2, abs=0.05)
    assert average.chance(1) == pytest.approx(0.9, abs=0.05)
    assert average.mean_chance == pytest.approx(0.55, abs=0.05)


def test_acceptance_of_a_grade_not_checked_yet_is_the_mean():
    average = GradeAcceptance(2)
    for _ in range(100):
        average.observe(0, right=False)
    assert average.chance(2) == average.mean_chance < 0.05


def test_acceptance_follows_a_change():
    average = learnt(0.9)
    for _ in range(1000):
        average.observe(0, right=False)
    assert average.chance(0) < 0.05


def test_acceptance_of_a_sequence_begins_at_the_average_and_leaves_it():
    average = learnt(0.5)
    worse, better = SequenceAcceptance(average), SequenceAcceptance(average)
    assert worse.mean_chance == pytest.approx(0.5, abs=0.05)
    for _ in range(20):
        worse.observe([0], [1], [2])
        better.observe([0], [1], [1])
    assert worse.chances([0])[0] < 0.15
    assert 0.8 < better.chances([0])[0] <= MAX_CHANCE
    assert average.chance(0) == pytest.approx(0.5, abs=0.1)


def test_acceptance_learns_nothing_from_what_follows_a_wrong_token():
    average = GradeAcceptance(3)
    SequenceAcceptance(average).observe([0, 1, 2, 3], [7, 8, 9, 9], [7, 0, 9, 9])
    assert average.chance(0) > average.mean_chance > average.chance(1)
    assert average.chance(2) == average.chance(3) == average.mean_chance


def test_acceptance_learns_nothing_from_guesses_beyond_the_sampled_tokens():
    average = GradeAcceptance(2)
    SequenceAcceptance(average).observe([0, 1, 2], [7, 8, 9], [7])
    assert average.chance(0) > average.mean_chance > FIRST_CHANCE
    assert average.chance(1) == average.mean_chance
