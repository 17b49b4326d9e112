"""Upkeep of the ledger."""

import time
from datetime import datetime
from typing import Final

from django.conf import settings

from metrics.ledger.partitions import drop_expired, ensure_partitions
from metrics.ledger.roll import roll

_TIDY_SECONDS: Final = 3600.0


class Upkeep:
    """Computes marked totals; once an hour, makes partitions ahead and deletes what is too old."""

    def __init__(self) -> None:
        self._tidy_at = 0.0

    def run(self, now: datetime) -> None:
        roll()
        if time.monotonic() < self._tidy_at:
            return
        # Before the work: while this waits for the lock of a long backup, requests wait behind it.
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        ensure_partitions(now)
        drop_expired(now, settings.USAGE_RECORD_DAYS)
