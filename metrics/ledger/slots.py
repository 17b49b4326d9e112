"""Quarters of an hour, in UTC: every time zone's days consist of whole ones."""

from datetime import UTC, datetime, timedelta
from typing import Final

SLOT: Final = timedelta(minutes=15)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The same for a record in SQL.
SLOT_OF_RECORD: Final = "date_bin('15 minutes', started_at, 'epoch')"


def slot_of(moment: datetime) -> datetime:
    """Return the beginning of the slot that ``moment``, an aware time, lies in."""
    return _EPOCH + (moment - _EPOCH) // SLOT * SLOT
