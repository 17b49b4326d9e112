"""Totals are computed from records, and computing them again changes nothing."""

import threading
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import Count, Sum

from metrics.ledger.buckets import percentile
from metrics.ledger.entry import Entry
from metrics.ledger.roll import DIMENSIONS, SUMS, as_of, roll
from metrics.ledger.slots import slot_of
from metrics.models import (
    Correction,
    RequestRecord,
    RollMark,
    ShapeDay,
    ShapeHour,
    ShapeSlot,
    UsageDay,
    UsageSlot,
)
from metrics.recorder import write
from tests.metrics.rows import STARTED_AT, entry, record

pytestmark = pytest.mark.django_db
QUARTER = timedelta(minutes=15)


def rows(*models: Any) -> list[list[tuple[Any, ...]]]:
    """All values but ids of the tables, in order."""
    found = []
    for model in models:
        names = [field.name for field in model._meta.fields if field.name != "id"]
        found.append(sorted(model.objects.values_list(*names), key=repr))
    return found


def totals() -> list[list[tuple[Any, ...]]]:
    return rows(UsageSlot, UsageDay, ShapeSlot, ShapeHour, ShapeDay)


def mark(*slots: datetime) -> None:
    RollMark.objects.bulk_create(RollMark(slot=slot) for slot in slots)


def correct(delta_nano: int, slot: datetime, **fields: Any) -> None:
    of_record = record(**fields)
    group = {name: getattr(of_record, name) for name in DIMENSIONS}
    Correction.objects.create(
        **group, slot=slot, delta_nano=delta_nano, price_id=1, reason="wrong price", made_by="ada"
    )
    mark(slot)


def test_roll_sums_every_column_by_all_dimensions():
    first = {"cost_nano": 7, "device_us": 5, "total_us": 20, "fallback": True, "team_id": None}
    write(
        [
            entry(**first),
            entry(**first | {"total_us": 30, "fallback": False}),
            entry(**first, outcome="failed"),
            entry(**first, outcome="lost"),
            entry(**first, outcome="cancelled"),
            entry(**first | {"team_id": 4}),
            entry(**first, key_id=None),
            entry(**first, tier="l1"),
        ]
    )
    assert roll() == 1
    assert (UsageSlot.objects.count(), UsageDay.objects.count()) == (4, 4)
    for model, when in ((UsageSlot, "slot"), (UsageDay, "day")):
        total = model.objects.get(team_id=None, key_id=3, tier="")
        assert {name: getattr(total, name) for name in (*SUMS, "correction_nano")} == {
            "requests": 5,
            "finished": 2,
            "failed": 2,
            "cancelled": 1,
            "fallbacks": 4,
            "prompt_tokens": 25,
            "cached_tokens": 5,
            "completion_tokens": 45,
            "computed_prompt_tokens": 20,
            "computed_completion_tokens": 45,
            "finished_us": 50,
            "device_us": 25,
            "cost_nano": 35,
            "correction_nano": 0,
        }
        assert getattr(total, when) == {"slot": slot_of(STARTED_AT), "day": date(2026, 5, 10)}[when]
    assert not RollMark.objects.exists()


def test_roll_keeps_every_group_of_a_large_batch():
    write(
        [
            entry(user_id=user, key_id=key, version_key=version, preset=preset, cost_nano=user)
            for user in range(73)
            for key in (1, 2)
            for version, preset in [
                ("a@v", ""),
                ("b@v", ""),
                ("c@v", "S1"),
                ("z@v", ""),
                ("z@v", "Z"),
            ]
        ]
    )
    roll()
    for model in (UsageSlot, UsageDay):
        sums = model.objects.aggregate(
            groups=Count("id"), requests=Sum("requests"), cost=Sum("cost_nano")
        )
        assert sums == {"groups": 730, "requests": 730, "cost": sum(range(73)) * 10}


def test_rolling_again_or_after_a_loss_gives_the_same_totals():
    write(
        [
            entry(started_at=STARTED_AT + number * timedelta(minutes=7), ttft_us=number * 1000 + 1)
            for number in range(300)
        ]
    )
    roll()
    first = totals()
    slots = list(UsageSlot.objects.values_list("slot", flat=True))
    assert sum(map(len, first)) > 200
    mark(*slots, slots[0] + timedelta(minutes=3))
    assert roll() == len(slots)
    assert totals() == first
    for model in (UsageSlot, UsageDay, ShapeSlot, ShapeHour, ShapeDay):
        model.objects.all().delete()
    mark(*slots)
    roll()
    assert totals() == first


def test_roll_adds_late_records_to_an_old_slot_only():
    write([entry(), entry(started_at=STARTED_AT + QUARTER)])
    roll()
    UsageSlot.objects.update(device_us=99)
    write([entry(started_at=STARTED_AT + QUARTER)])
    assert roll() == 1
    assert list(UsageSlot.objects.order_by("slot").values_list("requests", "device_us")) == [
        (1, 99),
        (2, 0),
    ]
    assert UsageDay.objects.get().requests == 3


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {date(2026, 5, 10): 3, date(2026, 5, 11): 4}),
        ("Asia/Kolkata", {date(2026, 5, 10): 1, date(2026, 5, 11): 3, date(2026, 5, 12): 3}),
        ("Asia/Kathmandu", {date(2026, 5, 10): 0, date(2026, 5, 11): 4, date(2026, 5, 12): 3}),
        ("America/Los_Angeles", {date(2026, 5, 10): 3, date(2026, 5, 11): 4}),
        ("Pacific/Kiritimati", {date(2026, 5, 11): 3, date(2026, 5, 12): 4}),
    ],
)
def test_days_are_those_of_the_setting(settings: Any, zone: str, days: dict[date, int]):
    moments = [
        *(datetime(2026, 5, 10, 18, 29, 59, tzinfo=UTC), datetime(2026, 5, 10, 18, 30, tzinfo=UTC)),
        *(datetime(2026, 5, 10, 23, 59, 59, tzinfo=UTC), datetime(2026, 5, 11, 18, 0, tzinfo=UTC)),
        *(datetime(2026, 5, 11, 18, 30, tzinfo=UTC), datetime(2026, 5, 11, 20, 0, tzinfo=UTC)),
        datetime(2026, 5, 11, 22, 0, tzinfo=UTC),
    ]
    write([entry(started_at=moment) for moment in moments])
    settings.USAGE_TIME_ZONE = zone
    roll()
    expected = {day: number for day, number in days.items() if number}
    found = dict(UsageDay.objects.values_list("day", "requests"))
    assert found == expected
    counts = {shape.day: sum(shape.counts) for shape in ShapeDay.objects.filter(measure="total")}
    assert counts == expected


def test_a_day_with_a_second_hour_has_a_hundred_slots(settings: Any):
    settings.USAGE_TIME_ZONE = "Europe/Berlin"
    first = datetime(2026, 10, 24, 22, tzinfo=UTC)
    write([entry(started_at=first + number * QUARTER) for number in range(-1, 101)])
    roll()
    assert UsageDay.objects.get(day=date(2026, 10, 25)).requests == 100


def test_days_are_computed_again_when_the_time_zone_changes(settings: Any):
    settings.USAGE_TIME_ZONE = "UTC"
    evening = datetime(2026, 5, 10, 20, tzinfo=UTC)
    write([entry(started_at=evening - timedelta(days=3)), entry(started_at=evening)])
    roll()
    settings.USAGE_TIME_ZONE = "Asia/Kolkata"
    roll()
    for model in (UsageDay, ShapeDay):
        days = {row.day.day for row in model.objects.all()}
        assert days == {8, 11}


def test_shapes_are_of_finished_requests_that_a_model_answered():
    write(
        [
            entry(
                ttft_us=1_000, decode_us=80_000, completion_tokens=9, queue_us=None, total_us=90_000
            ),
            entry(ttft_us=3_000, decode_us=5_000, completion_tokens=1, queue_us=0, total_us=4_000),
            entry(ttft_us=None, decode_us=None, completion_tokens=0, queue_us=None, total_us=50),
            entry(outcome="failed"),
            entry(outcome="cancelled"),
            entry(tier="l1"),
        ]
    )
    roll()
    for model in (ShapeSlot, ShapeHour, ShapeDay):
        shapes = {shape.measure: (shape.buckets, shape.counts) for shape in model.objects.all()}
        medians = {measure: percentile(*shape, 0.5) for measure, shape in shapes.items()}
        assert {measure: sum(counts) for measure, (_, counts) in shapes.items()} == {
            "ttft": 2,
            "itl": 1,
            "queue": 1,
            "total": 3,
        }
        assert medians == {
            "ttft": pytest.approx(2_000, rel=0.02),
            "itl": pytest.approx(10_000, rel=0.02),
            "queue": pytest.approx(1, rel=0.02),
            "total": pytest.approx(4_000, rel=0.02),
        }


def test_corrections_stand_beside_the_cost_even_without_a_record():
    slot = slot_of(STARTED_AT)
    write([entry(cost_nano=100)])
    correct(-40, slot)
    correct(-2, slot)
    correct(5, slot, version_key="gone@v", team_id=None)
    for _ in range(2):
        mark(slot)
        roll()
        for model in (UsageSlot, UsageDay):
            found = model.objects.values_list(
                "version_key", "requests", "cost_nano", "correction_nano"
            )
            assert sorted(found) == [("gone@v", 0, 0, 5), ("m@v", 1, 100, -42)]


def test_totals_stay_when_their_records_are_gone():
    slot = slot_of(STARTED_AT)
    write([entry(cost_nano=100), entry(user_id=8)])
    correct(1, slot)
    roll()
    RequestRecord.objects.all().delete()
    before = totals()
    mark(slot)
    roll()
    assert totals() == before
    correct(-41, slot)
    roll()
    assert UsageSlot.objects.get(user_id=7).correction_nano == -40
    assert UsageDay.objects.get(user_id=7).correction_nano == -40


def test_a_day_stays_when_its_slots_are_gone():
    slot = slot_of(STARTED_AT)
    write([entry(cost_nano=100)])
    roll()
    RequestRecord.objects.all().delete()
    UsageSlot.objects.all().delete()
    ShapeSlot.objects.all().delete()
    before = rows(UsageDay, ShapeDay)
    correct(5, slot)
    roll()
    assert rows(UsageDay, ShapeDay) == before


def test_as_of_is_the_oldest_slot_with_a_mark():
    before = datetime.now(UTC)
    assert before <= as_of() <= datetime.now(UTC)
    mark(slot_of(STARTED_AT) + QUARTER, slot_of(STARTED_AT))
    assert as_of() == slot_of(STARTED_AT)
    roll()
    assert as_of() >= before


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_commits_during_a_roll_is_rolled_next():
    write([entry()])
    late = Entry(record())
    committed = threading.Event()

    def write_late() -> None:
        try:
            write([late])
        finally:
            connections.close_all()
            committed.set()

    class AfterTheMarks:
        """Let the batch commit when the marks have been read, before the records are."""

        def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = execute(sql, params, many, context)
            if sql.startswith('SELECT "metrics_rollmark"'):
                thread = threading.Thread(target=write_late)
                thread.start()
                thread.join(10)
            return result

    with connection.execute_wrapper(AfterTheMarks()):
        roll()
    assert committed.is_set()
    assert RollMark.objects.count() == 1
    roll()
    assert UsageSlot.objects.get().requests == 2
    assert not RollMark.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_mark_that_commits_after_the_roll_survives():
    """An uncommitted batch has an older mark id than marks that a roll takes."""
    inserted, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic():
                write([entry()])
                inserted.set()
                may_commit.wait(10)
        finally:
            connections.close_all()

    thread = threading.Thread(target=write_slowly)
    thread.start()
    assert inserted.wait(10)
    write([entry()])
    roll()
    assert UsageSlot.objects.get().requests == 1
    may_commit.set()
    thread.join(10)
    assert RollMark.objects.count() == 1
    roll()
    assert UsageSlot.objects.get().requests == 2
