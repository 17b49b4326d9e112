"""The ledger's second copy, in Redis: accepted requests until Postgres has their records.

brigade:open             hash     run id → "<when it was accepted> <process> <facts known then>"
brigade:left             set      run ids that their process leaves to the controller
brigade:unwritten        hash     run id → a whole record that Postgres did not take yet
brigade:process:<id>     string   this web process, which settles its own requests, lives
brigade:ledger:<day>     hash     counts of a UTC day, to compare with records: accepted requests,
                                  tokens computed by engines, and since when they are counted
brigade:refused          hash     "<slot>|<error code>" → refused requests
brigade:metrics          hash     counters for Prometheus
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

OPEN: Final = "brigade:open"
LEFT: Final = "brigade:left"
UNWRITTEN: Final = "brigade:unwritten"
REFUSED: Final = "brigade:refused"
COUNTERS: Final = "brigade:metrics"
process_key = "brigade:process:{}".format
day_key = "brigade:ledger:{}".format

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_PER_DAY: Final = 86_400


def script(name: str) -> str:
    """Lua source beside this file."""
    return (Path(__file__).parent / f"{name}.lua").read_text()


def moment_of(microseconds: bytes | str | int) -> datetime:
    """The time, exact, of Unix microseconds."""
    return _EPOCH + timedelta(microseconds=int(microseconds))


def day_number(moment: datetime) -> int:
    """Whole days since 1970 in UTC."""
    return (moment - _EPOCH) // timedelta(seconds=_SECONDS_PER_DAY)
