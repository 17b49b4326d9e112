"""Times, amounts and rates as people read them."""

import pytest

from metrics.display import duration, money, rate


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (None, "-"),
        (0, "0 ms"),
        (1_240, "1.2 ms"),
        (340_400, "340 ms"),
        (999_499, "999 ms"),
        (999_500, "1.0 s"),
        (1_840_000, "1.8 s"),
        (17_775_149, "18 s"),
        (59_600_000, "1 min 0 s"),
        (200_000_000, "3 min 20 s"),
        (7_500_000_000, "2 h 5 min"),
    ],
)
def test_duration_is_rounded_for_people(microseconds: int | None, text: str) -> None:
    assert duration(microseconds) == text


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.0000000010"),
        (1_234_567, "$0.0012"),
        (123_456_789, "$0.12"),
        (999_000_000, "$1.00"),
        (12_345_678_901, "$12.35"),
        (4_321_000_000_000, "$4,321.00"),
        (-1_234_567, "-$0.0012"),
    ],
)
def test_money_has_two_digits_that_count(nano: int, text: str) -> None:
    assert money(nano) == text


def test_rate_is_missing_without_tokens_or_time() -> None:
    assert [rate(100, 2_000_000), rate(3, 1_000_000)] == ["50/s", "3.0/s"]
    assert [rate(0, 5), rate(5, None), rate(5, 0)] == [""] * 3
