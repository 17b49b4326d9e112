"""Records lie in partitions by month, which are made ahead of time and dropped whole."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction

from metrics.ledger.partitions import (
    DEFAULT_PARTITION,
    drop_expired,
    ensure_partitions,
    months,
)
from metrics.models import (
    FleetSample,
    RefusedSlot,
    RequestRecord,
    RequestStep,
    RollMark,
    UsageDay,
    UsageSlot,
)
from metrics.recorder import write
from tests.metrics.rows import entry

pytestmark = pytest.mark.django_db
# No test run makes partitions of these months by itself.
MAY, JUNE, JULY = (datetime(2041, month, 1, tzinfo=UTC) for month in (5, 6, 7))


def partition_of(record: RequestRecord) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tableoid::regclass::text FROM metrics_requestrecord WHERE run_id = %s",
            [record.run_id],
        )
        ((name,),) = cursor.fetchall()
    return name


def test_partitions_of_this_and_the_next_month_are_made_once():
    before = months()
    ensure_partitions(datetime(2041, 5, 31, 23, 59, tzinfo=UTC))
    ensure_partitions(MAY)
    assert months() == [*before, MAY, JUNE]
    ensure_partitions(datetime(2041, 12, 31, tzinfo=UTC))
    assert months()[-1] == datetime(2042, 1, 1, tzinfo=UTC)


def test_the_month_of_another_time_zone_is_that_of_utc():
    ensure_partitions(datetime.fromisoformat("2041-06-01T00:30+05:45"))
    assert months()[-2:] == [MAY, JUNE]


def test_records_go_to_the_partition_of_their_month():
    ensure_partitions(MAY)
    last, first = entry(started_at=JUNE - timedelta(microseconds=1)), entry(started_at=JUNE)
    later = entry(started_at=JULY)
    write([last, first, later])
    assert [partition_of(each.record) for each in (last, first, later)] == [
        "metrics_requestrecord_2041_05",
        "metrics_requestrecord_2041_06",
        DEFAULT_PARTITION,
    ]
    assert len(set(RequestRecord.objects.values_list("id", flat=True))) == 3


def test_a_new_partition_takes_its_records_from_the_default_one():
    early = entry(started_at=JULY)
    write([early, entry(started_at=JULY + timedelta(days=40))])
    values = RequestRecord.objects.filter(run_id=early.run_id).values().get()
    ensure_partitions(JUNE)
    assert partition_of(early.record) == "metrics_requestrecord_2041_07"
    assert RequestRecord.objects.filter(run_id=early.run_id).values().get() == values
    write([early])
    assert RequestRecord.objects.count() == 2


def test_a_month_is_dropped_when_all_of_it_is_too_old():
    ensure_partitions(MAY)
    for started_at in (MAY, JUNE):
        each = entry(started_at=started_at)
        step = {"number": 1, "kind": "chat", "version_key": "m@v", "outcome": "finished"}
        each.steps.append(RequestStep(run_id=each.run_id, started_at=started_at, **step))
        write([each])
    RollMark.objects.all().delete()
    drop_expired(JUNE + timedelta(days=90, microseconds=-1), 90)
    assert months() == [MAY, JUNE]
    drop_expired(JUNE + timedelta(days=90), 90)
    assert months() == [JUNE]
    assert RequestRecord.objects.get().started_at == JUNE
    assert RequestStep.objects.get().started_at == JUNE


def test_a_month_with_a_mark_is_not_dropped():
    ensure_partitions(MAY)
    write([entry(started_at=JUNE - timedelta(minutes=1))])
    long_after = JUNE + timedelta(days=300)
    drop_expired(long_after, 90)
    assert MAY in months()
    assert RequestRecord.objects.count() == 1
    RollMark.objects.all().delete()
    drop_expired(long_after, 90)
    assert MAY not in months()


@pytest.mark.django_db(transaction=True)
def test_a_month_is_not_dropped_under_a_batch_that_is_being_written():
    # In the past, since this drops real partitions of the database.
    month = datetime(2001, 5, 1, tzinfo=UTC)
    ensure_partitions(month)
    inserted, may_commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        try:
            with transaction.atomic():
                write([entry(started_at=month)])
                inserted.set()
                may_commit.wait(10)
        finally:
            connections.close_all()

    class WhenTheTableIsLocked:
        def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if sql.startswith("LOCK TABLE"):
                may_commit.set()
            return execute(sql, params, many, context)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    try:
        assert inserted.wait(10)
        with connection.execute_wrapper(WhenTheTableIsLocked()):
            drop_expired(month + timedelta(days=300), 90)
        assert month in months()
        thread.join(10)
        assert RequestRecord.objects.get().started_at == month
    finally:
        may_commit.set()
        thread.join(10)
        with connection.cursor() as cursor:
            for name in ("2001_05", "2001_06"):
                cursor.execute(f"DROP TABLE IF EXISTS metrics_requestrecord_{name}")


def test_old_totals_by_slot_are_deleted_by_whole_days(settings: Any):
    settings.USAGE_TIME_ZONE = "Asia/Kolkata"
    now = datetime(2041, 6, 10, 9, tzinfo=UTC)
    # Midnight in Kolkata, 400 days before.
    first = datetime(2040, 5, 5, 18, 30, tzinfo=UTC)
    names = {field.name for field in UsageSlot._meta.fields} - {"id", "slot"}
    sums = dict.fromkeys(names - {"team_id", "key_id"}, 1)
    for slot in (first - timedelta(minutes=15), first):
        UsageSlot.objects.create(slot=slot, **sums)
        RefusedSlot.objects.create(slot=slot, code="full", requests=1)
        FleetSample.objects.create(taken_at=slot, node="n", version_key="m@v", resident_bytes=1)
    UsageDay.objects.create(day=datetime(2030, 1, 1, tzinfo=UTC).date(), **sums)
    drop_expired(now, 370)
    assert UsageSlot.objects.count() == 2
    drop_expired(now, 90)
    assert UsageSlot.objects.get().slot == first
    assert RefusedSlot.objects.get().slot == first
    assert FleetSample.objects.get().taken_at == first
    assert UsageDay.objects.count() == 1
