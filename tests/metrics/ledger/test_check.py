"""The check finds whatever is missing, doubled or not rolled, and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db.models import F

from metrics.ledger import check as check_module
from metrics.ledger import store
from metrics.ledger.check import check
from metrics.ledger.entry import Entry
from metrics.ledger.partitions import ensure_partitions
from metrics.ledger.slots import slot_of
from metrics.models import Correction, RollMark, UsageDay, UsageSlot
from metrics.recorder import write
from tests.metrics.rows import entry
from tests.stack import redis_client

__all__ = ["redis_client"]

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def client(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis without a ledger, before and after."""

    def clear() -> None:
        redis_client.delete(store.OPEN, store.UNWRITTEN, *redis_client.keys("brigade:ledger:*"))

    clear()
    yield redis_client
    clear()


@pytest.fixture
def now(client: redis.Redis) -> datetime:
    seconds, microseconds = client.time()
    moment = store.moment_of(seconds * 1_000_000 + microseconds)
    # On the first days of a month the days before are in another partition.
    ensure_partitions(moment - 31 * DAY)
    return moment


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def count(client: redis.Redis, since: datetime, entries: list[Entry]) -> None:
    """Count the requests of a day as Redis does when they are accepted and computed."""
    key = store.day_key(store.day_number(since))
    client.hset(key, "since", microseconds(since))
    client.hincrby(key, "accepted", len(entries))
    for each in entries:
        client.hincrby(key, "computed_prompt", each.record.computed_prompt_tokens)
        client.hincrby(key, "computed_completion", each.record.computed_completion_tokens)


def differences(client: redis.Redis) -> dict[str, int]:
    return {each.name: each.difference for each in check(client) if each.difference}


def test_an_exact_ledger_has_no_differences(client: redis.Redis, now: datetime):
    for age in range(3):
        begin = now - age * DAY
        entries = [
            entry(started_at=begin + timedelta(microseconds=n), cost_nano=5) for n in range(4)
        ]
        # A record of the same day, before Redis began to count.
        write([*entries, entry(started_at=begin - timedelta(microseconds=1))])
        count(client, begin, entries)
    found = check(client)
    assert not [each for each in found if each.difference]
    assert [(each.name, each.left, each.right) for each in found] == [
        ("requests: accepted = recorded or in progress", 12, 12),
        ("computed tokens: engines = records", 156, 156),
        ("totals: records = quarters of an hour", 15, 15),
        ("totals: quarters of an hour = days", 15, 15),
    ]


def test_an_accepted_request_without_a_record_is_found(client: redis.Redis, now: datetime):
    lost, kept = entry(started_at=now), entry(started_at=now)
    count(client, now, [lost, kept])
    write([kept])
    found = {each.name: each for each in check(client) if each.difference}
    assert [(each.difference, each.places) for each in found.values()] == [
        (1, [f"{now:%Y-%m-%d}"]),
        (13, [f"{now:%Y-%m-%d}"]),
    ]


def test_a_request_too_few_and_one_too_many_are_two_differences(client: redis.Redis, now: datetime):
    count(client, now - DAY, [entry(), entry()])
    count(client, now, [entry()])
    write([entry(started_at=now - DAY), entry(started_at=now), entry(started_at=now)])
    assert differences(client) == {
        "requests: accepted = recorded or in progress": 2,
        "computed tokens: engines = records": 26,
    }


def test_requests_in_progress_are_no_difference(client: redis.Redis, now: datetime):
    running, waiting, committed = (entry(started_at=now) for _ in range(3))
    before = entry(started_at=now - timedelta(seconds=1))
    count(client, now, [running, waiting, committed])
    # Committed, and not taken out of Redis yet.
    write([committed])
    client.hset(store.OPEN, running.run_id, f"{microseconds(now)} p f")
    client.hset(store.OPEN, committed.run_id, f"{microseconds(now)} p f")
    client.hset(store.UNWRITTEN, waiting.run_id, waiting.encode())
    client.hset(store.UNWRITTEN, before.run_id, before.encode())
    found = check(client)
    assert not [each for each in found if each.difference]
    assert "computed tokens: engines = records" not in {each.name for each in found}
    client.hdel(store.OPEN, running.run_id)
    assert differences(client) == {"requests: accepted = recorded or in progress": 1}


def test_a_waiting_record_that_nobody_can_read_is_a_difference(client: redis.Redis, now: datetime):
    count(client, now, [entry()])
    client.hset(store.UNWRITTEN, "run", b"\xc1")
    assert differences(client) == {"requests: accepted = recorded or in progress": 1}


def test_days_whose_records_may_be_dropped_are_not_compared(
    client: redis.Redis, now: datetime, monkeypatch: pytest.MonkeyPatch
):
    count(client, now - 2 * DAY, [entry()])
    assert differences(client)
    monkeypatch.setattr(check_module, "months", lambda: [now - DAY])
    assert differences(client) == {}


def test_totals_that_do_not_fit_their_records_are_found(client: redis.Redis, now: datetime):
    write([entry(started_at=now, user_id=user, cost_nano=50) for user in (1, 2)])
    check(client)
    UsageSlot.objects.filter(user_id=1).update(cost_nano=F("cost_nano") + 3)
    UsageSlot.objects.filter(user_id=2).update(cost_nano=F("cost_nano") - 3)
    assert differences(client) == {
        "totals: records = quarters of an hour": 2,
        "totals: quarters of an hour = days": 2,
    }
    UsageSlot.objects.all().delete()
    RollMark.objects.create(slot=slot_of(now))
    assert differences(client) == {}
    UsageDay.objects.filter(user_id=1).delete()
    assert differences(client) == {"totals: quarters of an hour = days": 1}


def test_a_correction_without_a_mark_is_found(client: redis.Redis, now: datetime):
    write([entry(started_at=now)])
    group = {"version_key": "m@v", "user_id": 7, "key_id": 3, "mode": "single", "kind": "chat"}
    correction = {"slot": slot_of(now), "delta_nano": -9, "price_id": 1, "reason": "r"}
    check(client)
    Correction.objects.create(**group, **correction)
    assert differences(client) == {"totals: records = quarters of an hour": 1}
    RollMark.objects.create(slot=slot_of(now))
    assert differences(client) == {}


def test_records_that_come_after_the_roll_are_no_difference(
    client: redis.Redis, now: datetime, monkeypatch: pytest.MonkeyPatch
):
    rolled = check_module.roll

    def roll_and_write() -> None:
        rolled()
        write([entry(started_at=now)])

    monkeypatch.setattr(check_module, "roll", roll_and_write)
    assert differences(client) == {}


def test_the_command_prints_zeros(client: redis.Redis, now: datetime, capsys: Any):
    write([entry(started_at=now)])
    call_command("ledger_check", wait=1)
    printed = capsys.readouterr().out
    assert "Requests in progress: 0" in printed
    assert "totals: records = quarters of an hour" in printed


def test_the_command_fails_and_explains_a_difference(
    client: redis.Redis, now: datetime, capsys: Any
):
    count(client, now, [entry()])
    with pytest.raises(CommandError, match="not exact: 2 of 4"):
        call_command("ledger_check")
    printed = " ".join(capsys.readouterr().out.split())
    assert "Accepted requests have no record" in printed
    assert f"{now:%Y-%m-%d}" in printed


def test_the_command_waits_for_requests_in_progress(
    client: redis.Redis, now: datetime, capsys: Any
):
    client.hset(store.OPEN, "run", f"{microseconds(now)} p f")
    with pytest.raises(CommandError, match=r"1 requests are in progress after 0\.01 s"):
        call_command("ledger_check", wait=0.01)
    assert "Requests in progress: 1" in capsys.readouterr().out
