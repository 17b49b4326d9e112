"""Slots are quarters of an hour in UTC."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from metrics.ledger.slots import slot_of


@pytest.mark.parametrize(
    ("moment", "slot"),
    [
        (
            datetime(2026, 5, 10, 18, 29, 59, 999_999, UTC),
            datetime(2026, 5, 10, 18, 15, tzinfo=UTC),
        ),
        (datetime(2026, 5, 10, 18, 30, tzinfo=UTC), datetime(2026, 5, 10, 18, 30, tzinfo=UTC)),
        # The hour that comes twice in Berlin, the second time.
        (
            datetime(2026, 10, 25, 2, 20, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
            datetime(2026, 10, 25, 1, 15, tzinfo=UTC),
        ),
        (datetime(1969, 12, 31, 23, 59, tzinfo=UTC), datetime(1969, 12, 31, 23, 45, tzinfo=UTC)),
    ],
)
def test_slot_of_a_moment(moment: datetime, slot: datetime):
    assert slot_of(moment) == slot
    assert slot_of(moment).tzinfo is UTC
