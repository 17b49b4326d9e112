"""The controller's upkeep: totals soon, partitions and old rows once an hour."""

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from django.db import OperationalError

from metrics.ledger import keep as keep_module
from metrics.ledger.keep import keep
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
    monkeypatch.setattr(keep_module, "_due", keep_module._Due())
    return clock


def test_the_first_call_rolls_and_makes_partitions(clock: Clock):
    write([entry()])
    keep(MAY)
    assert MAY in months()
    assert not RollMark.objects.exists()


def test_partitions_are_made_once_an_hour(clock: Clock):
    keep(datetime.now(UTC))
    clock.now += 3599
    keep(MAY)
    assert MAY not in months()
    clock.now += 1
    keep(MAY)
    assert MAY in months()


@pytest.mark.parametrize(
    ("roll_seconds", "expected"), [(2, [1000, 1020, 1040, 1060]), (100, [1000, 1160, 1320, 1480])]
)
def test_rolls_take_a_tenth_of_the_time_but_pause_a_minute_at_most(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, roll_seconds: float, expected: list[float]
):
    rolls: list[float] = []

    def slow_roll() -> None:
        rolls.append(clock.now)
        clock.now += roll_seconds

    monkeypatch.setattr(keep_module, "roll", slow_roll)
    while len(rolls) < 4:
        keep(datetime.now(UTC))
        clock.now += 1
    assert rolls == expected


def test_a_lock_that_is_not_free_stops_no_roll(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    def fail(now: datetime) -> None:
        raise OperationalError("lock timeout")

    monkeypatch.setattr(keep_module, "ensure_partitions", fail)
    for number in (1, 2):
        write([entry()])
        with pytest.raises(OperationalError) if number == 1 else nullcontext():
            keep(datetime.now(UTC))
        assert UsageSlot.objects.get().requests == number


def test_a_failed_roll_is_tried_again_at_the_next_call(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> None:
        raise RuntimeError("no database")

    write([entry()])
    with monkeypatch.context() as context:
        context.setattr(keep_module, "roll", fail)
        with pytest.raises(RuntimeError):
            keep(datetime.now(UTC))
    keep(datetime.now(UTC))
    assert not RollMark.objects.exists()
