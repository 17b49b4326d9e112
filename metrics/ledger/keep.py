"""Upkeep of the ledger, which the controller calls every few seconds."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings

from metrics.ledger.partitions import drop_expired, ensure_partitions
from metrics.ledger.roll import roll

_TIDY_SECONDS: Final = 3600.0
# Each roll computes the slot of the present again. At 500 requests/s this takes more than a second
# at the end of the slot; the pauses keep it at a tenth of the time. A roll of many old slots takes
# minutes, but the next one does not.
_PAUSES_PER_ROLL: Final = 9.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


@dataclass
class _Due:
    roll: float = 0.0
    tidy: float = 0.0


_due = _Due()


def keep(now: datetime) -> None:
    """Compute marked totals; once an hour, make partitions ahead and delete what is too old."""
    began = time.monotonic()
    if began >= _due.roll:
        roll()
        ended = time.monotonic()
        _due.roll = ended + min(_PAUSES_PER_ROLL * (ended - began), _LONGEST_PAUSE_SECONDS)
    if began >= _due.tidy:
        # Before the work: while this waits for the lock of a long backup, requests wait behind it.
        _due.tidy = began + _TIDY_SECONDS
        ensure_partitions(now)
        drop_expired(now, settings.USAGE_RECORD_DAYS)
