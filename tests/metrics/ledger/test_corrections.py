"""A wrong price is corrected by rows of their own, exactly and once."""

import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum

from metrics.ledger.corrections import Charge, correct
from metrics.ledger.cost import Rates, cost_nano
from metrics.ledger.partitions import months
from metrics.ledger.roll import roll
from metrics.models import Correction, RequestRecord, RollMark, UsageDay, UsageSlot

pytestmark = pytest.mark.django_db
VERSION = "m@v1"
# In the oldest partition there is.
NOON = datetime.now(UTC).replace(day=1, hour=12, minute=0, second=0, microsecond=0)


def dollars(each: float) -> Rates:
    """Rates of tokens in US dollars per million; cached ones cost half."""
    nano = round(each * 10**9)
    return Rates(nano, nano // 2, nano, 0)


ONE = Charge(1, NOON - timedelta(hours=12), dollars(1.0))
TWO = Charge(2, NOON, dollars(2.0))
FIXED = Charge(3, NOON + timedelta(minutes=2), dollars(1.5))


def record(started_at: datetime, charge: Charge | None = ONE, **fields: Any) -> RequestRecord:
    """A record whose cost is by ``charge``."""
    amounts = {"prompt_tokens": 700, "cached_tokens": 300, "completion_tokens": 41, "device_us": 0}
    amounts |= {name: fields.pop(name) for name in list(fields) if name in amounts}
    return RequestRecord.objects.create(
        **{
            "run_id": uuid.uuid4().hex,
            "started_at": started_at,
            "settled_at": started_at + timedelta(seconds=31),
            "kind": "chat",
            "user_id": 7,
            "version_key": VERSION,
            "outcome": "finished",
            "cost_nano": cost_nano(charge.rates, *amounts.values()) if charge else 0,
            "price_id": charge.price_id if charge else None,
            **amounts,
            **fields,
        }
    )


def corrected(*charges: Charge, since: datetime, until: datetime | None = None) -> int:
    """The sum of corrections that are added for these prices."""
    before = total()
    correct(VERSION, charges, since, until, reason="wrong", made_by="keeper")
    return total() - before


def total(**where: Any) -> int:
    """The sum of corrections."""
    found = Correction.objects.filter(**where).aggregate(total=Sum("delta_nano"))["total"]
    return int(found or 0)


def rows() -> list[dict[str, Any]]:
    """All records as they are."""
    return list(RequestRecord.objects.order_by("id").values())


def test_corrections_are_the_exact_difference_and_records_stay() -> None:
    before = record(NOON - timedelta(seconds=1))  # it streams until after the change of prices
    records = [record(NOON + timedelta(minutes=n), TWO, completion_tokens=n) for n in range(60)]
    stored = rows()
    fixed = Charge(3, NOON, dollars(1.5))
    expected = sum(
        cost_nano(fixed.rates, r.prompt_tokens, r.cached_tokens, r.completion_tokens, 0)
        - r.cost_nano
        for r in records
    )
    assert corrected(ONE, fixed, TWO, since=NOON) == expected < 0
    assert before.cost_nano == cost_nano(ONE.rates, 700, 300, 41, 0)
    assert rows() == stored
    slots = {NOON + timedelta(minutes=15 * n) for n in range(4)}
    assert set(Correction.objects.values_list("slot", flat=True)) == slots
    assert set(RollMark.objects.values_list("slot", flat=True)) == slots
    assert set(Correction.objects.values_list("price_id", "reason", "made_by")) == {
        (3, "wrong", "keeper")
    }


def test_corrections_that_are_repeated_add_nothing() -> None:
    record(NOON + timedelta(minutes=5), TWO)
    assert corrected(ONE, FIXED, since=FIXED.valid_from)
    marks = RollMark.objects.count()
    assert corrected(ONE, FIXED, since=FIXED.valid_from) == 0
    assert Correction.objects.count() == marks == RollMark.objects.count() == 1
    record(NOON + timedelta(minutes=6), TWO)  # written late
    assert corrected(ONE, FIXED, since=FIXED.valid_from) == total() // 2


def test_corrections_of_a_slot_that_has_several_prices_are_those_of_each_record() -> None:
    """A correction does not tell which records of its slot it is for."""
    moments = [0, 1, 3, 9, 14]
    records = [record(NOON + timedelta(minutes=n), ONE) for n in moments]
    corrected(ONE, TWO, since=NOON)
    corrected(ONE, TWO, FIXED, since=FIXED.valid_from)
    third = Charge(4, NOON + timedelta(minutes=9), dollars(40.0))
    corrected(ONE, TWO, FIXED, third, since=third.valid_from)
    right = [TWO, TWO, FIXED, third, third]
    expected = [cost_nano(charge.rates, 700, 300, 41, 0) for charge in right]
    assert total() == sum(expected) - sum(r.cost_nano for r in records)
    assert total(price_id=2) == sum(expected[:2]) - sum(r.cost_nano for r in records[:2])


def test_corrections_keep_dimensions_apart() -> None:
    people = [{"user_id": 1}, {"user_id": 2}, {"user_id": 2, "key_id": 5, "team_id": 6}]
    for fields in people:
        record(NOON, **fields)
        record(NOON, **fields)
    found = corrected(TWO, since=NOON)
    grouped = Correction.objects.values_list("user_id", "key_id", "team_id", "delta_nano")
    each = found // 3
    assert set(grouped) == {(1, None, None, each), (2, None, None, each), (2, 5, 6, each)}
    assert corrected(TWO, since=NOON) == 0


def test_corrections_leave_other_versions_times_and_cached_answers() -> None:
    record(NOON, version_key="other@v1")
    record(NOON, None, tier="l1")
    record(NOON - timedelta(minutes=20))
    record(NOON + timedelta(hours=1))
    assert corrected(TWO, since=NOON, until=NOON + timedelta(minutes=30)) == 0
    assert not Correction.objects.exists()
    assert not RollMark.objects.exists()


def test_correction_of_requests_without_a_price_is_their_whole_cost() -> None:
    record(NOON, None, device_us=1_800_000_000)
    hourly = Charge(9, NOON, Rates(0, 0, 0, 3 * 10**9))
    assert corrected(hourly, since=NOON) == 1_500_000_000


@pytest.mark.django_db(transaction=True)
def test_corrections_are_in_the_totals_beside_the_costs() -> None:
    cost = record(NOON).cost_nano + record(NOON + timedelta(hours=2), user_id=8).cost_nano
    delta = corrected(TWO, since=NOON)
    roll()
    for table in (UsageSlot, UsageDay):
        sums = table.objects.aggregate(cost=Sum("cost_nano"), correction=Sum("correction_nano"))
        assert sums == {"cost": cost, "correction": delta}


def test_corrections_of_records_that_are_gone_stay() -> None:
    oldest = months()[0]
    gone = record(oldest - timedelta(seconds=1))
    group = {"version_key": VERSION, "user_id": 7, "mode": "single", "kind": "chat"}
    slot = oldest - timedelta(minutes=15)
    Correction.objects.create(**group, slot=slot, delta_nano=5, price_id=2, reason="r")
    early = Charge(2, oldest - timedelta(days=1), dollars(2.0))
    record(oldest)
    assert corrected(early, since=gone.started_at) == gone.cost_nano


@pytest.mark.django_db(transaction=True)
def test_corrections_made_at_once_are_added_once() -> None:
    record(NOON)
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait(10)
        try:
            corrected(TWO, since=NOON)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Correction.objects.count() == 1
