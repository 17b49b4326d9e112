"""Which hits are compared, what agrees, and from where on a cache stops."""

import pytest

from caching.semantic.shadow import Tally, agreement, is_compared, wilson


@pytest.mark.parametrize(
    ("comparisons", "draw", "expected"),
    [
        (0, 0.0, True),
        (0, 0.0999, True),
        (0, 0.1, False),
        (499, 0.0999, True),
        (500, 0.0999, False),
        (500, 0.0099, True),
        (500, 0.01, False),
        (100_000, 0.0099, True),
    ],
)
def test_is_compared_takes_many_at_first_and_few_later(
    comparisons: int, draw: float, expected: bool
) -> None:
    assert is_compared(comparisons, draw) is expected


@pytest.mark.parametrize(
    ("answer_a", "answer_b", "similarity", "expected"),
    [
        ("Paris.", "Paris.", 0.0, True),
        ("Paris is\n the capital. ", "paris is the Capital.", 0.0, True),
        ("It is Paris.", "The capital is Paris.", 0.9, True),
        ("It is Paris.", "The capital is Paris.", 0.899, False),
        ("It takes 12 weeks.", "It takes 26 weeks.", 0.99, False),
        ("12 to 26 weeks.", "From 26 weeks to 12.", 0.99, True),
        ("It takes 12 weeks.", "It takes some weeks.", 0.99, False),
        ("It takes 12 weeks.", "It takes 12 weeks, 12 at least.", 0.99, False),
        ("It is -5 degrees.", "It is 5 degrees.", 0.99, False),
        ("It costs 1.5 dollars.", "It costs 15 dollars.", 0.99, False),
        ("From 2019-2020.", "From 2019 to 2020.", 0.99, True),
        ("At 12:30.", "At 12:45.", 0.99, False),
        ("Yes.", "No.", float("nan"), False),
    ],
)
def test_agreement_needs_the_same_text_or_a_near_one_with_the_same_numbers(
    answer_a: str, answer_b: str, similarity: float, expected: bool
) -> None:
    assert agreement(answer_a, answer_b, similarity) is expected
    assert agreement(answer_b, answer_a, similarity) is expected


@pytest.mark.parametrize(
    ("wrong", "total", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 100, 0.0, 0.03699),
        (1, 100, 0.00177, 0.05449),
        (5, 100, 0.02154, 0.11175),
        (50, 100, 0.40383, 0.59617),
        (100, 100, 0.96301, 1.0),
    ],
)
def test_wilson_gives_the_95_percent_interval(
    wrong: int, total: int, low: float, high: float
) -> None:
    assert wilson(wrong, total) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("comparisons", "wrong", "expected"),
    [
        (0, 0, False),
        (1, 1, False),
        (2, 2, False),
        (3, 3, True),
        (100, 3, True),
        (400, 20, True),
        (400, 3, False),
        (2000, 0, False),
        (2000, 10, False),
        (2000, 40, True),
    ],
)
def test_tally_stops_where_the_lower_end_is_above_the_limit(
    comparisons: int, wrong: int, expected: bool
) -> None:
    assert Tally("m@v1", "", comparisons, wrong).is_stopped is expected
