"""Which price is in force."""

from datetime import UTC, datetime, timedelta

import pytest

from models_registry.rules.price import Price, price_at

NOON = datetime(2026, 5, 10, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CORRECTED = Price(2, NOON, 2, 2, 2, 2)
LATER = Price(3, NOON, 3, 3, 3, 3)
EARLIER = Price(1, NOON - timedelta(hours=1), 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (EARLIER.valid_from - MICROSECOND, None),
        (EARLIER.valid_from, EARLIER),
        (NOON - MICROSECOND, EARLIER),
        (NOON, LATER),
        (NOON + timedelta(days=900), LATER),
    ],
)
def test_price_at_a_moment_is_the_last_that_has_begun(
    moment: datetime, expected: Price | None
) -> None:
    assert price_at([LATER, CORRECTED, EARLIER], moment) == expected
    assert price_at([], moment) is None
