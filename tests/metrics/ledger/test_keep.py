"""The controller's upkeep: totals soon, partitions and old rows once an hour."""

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from metrics.ledger import keep as keep_module
from metrics.ledger.keep import Upkeep
from metrics.ledger.partitions import months
from metrics.models import RollMark, UsageSlot
from metrics.recorder import write
from tests.metrics.rows import entry

pytestmark = pytest.mark.django_db
MAY = datetime(2041, 5, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keep_module, "time", clock)
    return clock


def test_the_first_call_rolls_and_makes_partitions(clock: Clock):
    write([entry()])
    Upkeep().run(MAY)
    assert MAY in months()
    assert not RollMark.objects.exists()


def test_partitions_are_made_once_an_hour(clock: Clock):
    upkeep = Upkeep()
    upkeep.run(datetime.now(UTC))
    clock.now += 3599
    upkeep.run(MAY)
    assert MAY not in months()
    clock.now += 1
    upkeep.run(MAY)
    assert MAY in months()


def test_a_lock_that_is_not_free_stops_no_roll(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    def fail(now: datetime) -> None:
        raise OperationalError("lock timeout")

    upkeep = Upkeep()
    monkeypatch.setattr(keep_module, "ensure_partitions", fail)
    for number in (1, 2):
        write([entry()])
        with pytest.raises(OperationalError) if number == 1 else nullcontext():
            upkeep.run(datetime.now(UTC))
        assert UsageSlot.objects.get().requests == number
