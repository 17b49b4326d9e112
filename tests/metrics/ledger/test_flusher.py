"""The web process accepts requests and writes their records, whatever is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import django.db
import pytest
import redis.asyncio
from django.conf import settings

from inference.database import in_database
from metrics.ledger import flusher, store
from metrics.ledger.entry import Entry, decode_entry
from metrics.ledger.flusher import Ledger
from metrics.models import RequestRecord
from metrics.recorder import write
from tests.metrics.rows import entry
from tests.stack import database  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
async def client() -> "AsyncIterator[redis.asyncio.Redis]":
    """An empty ledger in the test Redis."""
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
    async for key in client.scan_iter("brigade:ledger:*"):
        await client.delete(key)
    await client.delete(store.OPEN, store.UNWRITTEN, store.LEFT, store.REFUSED)
    yield client
    await client.aclose()


@pytest.fixture
async def ledger(
    client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ledger]:
    """A ledger that does not wait long."""
    monkeypatch.setattr(flusher, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(flusher, "RETRY_SECONDS", 0.02)
    ledger = Ledger(client)
    yield ledger
    await ledger.close()


async def until(ready: Callable[[], Any]) -> None:
    """Wait until an awaitable answer is true."""
    async with asyncio.timeout(10):
        while not await ready():
            pass


async def accepted(client: "redis.asyncio.Redis", ledger: Ledger, run_id: str) -> Entry:
    """A request that the ledger has accepted, and its record."""
    moment = await ledger.accept(run_id, b"facts")
    value: Any = await client.hget(store.OPEN, run_id)
    assert value.split(b" ", 2)[1:] == [ledger.process.encode(), b"facts"]
    return entry(run_id=run_id, started_at=moment)


async def count(client: "redis.asyncio.Redis", one: Entry) -> int:
    """Accepted requests of the day of a record."""
    day = store.day_key(store.day_number(one.record.started_at))
    return int(await client.hget(day, "accepted") or 0)


async def test_record_replaces_the_open_request(
    client: "redis.asyncio.Redis", ledger: Ledger
) -> None:
    one = await accepted(client, ledger, "a")
    assert await client.exists(store.process_key(ledger.process))
    ledger.settle(one)
    await until(lambda: in_database(RequestRecord.objects.filter(run_id="a").exists))
    await ledger.close()
    assert not await client.exists(store.OPEN, store.UNWRITTEN)
    assert await count(client, one) == 1


async def test_process_lives_on_while_its_requests_take_long(
    client: "redis.asyncio.Redis", ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "RENEW_SECONDS", 0.02)
    await accepted(client, ledger, "a")
    lease = store.process_key(ledger.process)
    for _ in range(2):
        await client.delete(lease)
        await until(lambda: client.exists(lease))


async def test_refused_request_is_not_counted_as_accepted(
    client: "redis.asyncio.Redis", ledger: Ledger
) -> None:
    one = await accepted(client, ledger, "a")
    ledger.withdraw("a")
    ledger.refuse("model_busy")
    await ledger.close()
    assert not await client.exists(store.OPEN)
    assert await count(client, one) == 0
    refused: Any = await client.hgetall(store.REFUSED)
    (name, number), *more = refused.items()
    assert (name.split(b"|")[1], number, more) == (b"model_busy", b"1", [])


async def test_request_without_a_known_end_is_left_to_the_controller(
    client: "redis.asyncio.Redis", ledger: Ledger
) -> None:
    await accepted(client, ledger, "a")
    ledger.leave("a")
    await ledger.close()
    assert await client.smembers(store.LEFT) == {b"a"}
    assert await client.hexists(store.OPEN, "a")


async def test_redis_keeps_records_while_postgres_is_away(
    client: "redis.asyncio.Redis", ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True

    def unreliable(entries: Sequence[Entry]) -> list[RequestRecord]:
        if is_away:
            raise django.db.OperationalError("connection refused")
        return write(entries)

    monkeypatch.setattr(flusher, "write", unreliable)
    monkeypatch.setattr(flusher, "BATCH", 2)
    entries = [await accepted(client, ledger, f"r{number}") for number in range(5)]
    for one in entries:
        ledger.settle(one)
    await until(lambda: _has_all(client, 5))
    assert not await client.exists(store.OPEN)
    kept: Any = await client.hget(store.UNWRITTEN, "r4")
    assert decode_entry(kept).record.started_at == entries[4].record.started_at
    is_away = False
    await until(lambda: _has_all(client, 0))
    assert await in_database(RequestRecord.objects.count) == 5


async def _has_all(client: "redis.asyncio.Redis", number: int) -> bool:
    return bool(await client.hlen(store.UNWRITTEN) == number)


async def test_record_that_postgres_refuses_does_not_stop_the_others(
    client: "redis.asyncio.Redis", ledger: Ledger
) -> None:
    good, bad = await accepted(client, ledger, "good"), await accepted(client, ledger, "bad")
    bad.record.kind = "x" * 17
    ledger.settle(bad)
    ledger.settle(good)
    await ledger.close()
    assert await in_database(lambda: RequestRecord.objects.get().run_id) == "good"
    assert await client.hkeys(store.UNWRITTEN) == [b"bad"]
    assert not await client.exists(store.OPEN)
