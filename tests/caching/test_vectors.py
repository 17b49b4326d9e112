"""Vectors in Redis: what is kept, for how long, how many, and what counts as a miss."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import redis.asyncio
from django.conf import settings

from caching import vectors
from caching.vectors import LAST_USES, PREFIX, find, keep, key_of

DIMENSIONS = 4
HASH, FIELD, VALUE = "brigade:test:condition", "weights", "w1"
MET = (HASH, FIELD, VALUE)


def vector(axis: int) -> bytes:
    return np.eye(DIMENSIONS, dtype="<f4")[axis].tobytes()


def new_keys(count: int) -> list[str]:
    return [uuid.uuid4().hex for _ in range(count)]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than the cache's users would wait."""
    monkeypatch.setattr(vectors, "PATIENCE_SECONDS", 10.0)


@pytest.fixture
async def client() -> AsyncIterator[redis.asyncio.Redis]:
    """Redis without vectors, in which the condition is met."""
    subject = redis.asyncio.Redis.from_url(settings.REDIS_URL)
    await subject.delete(LAST_USES)
    await subject.hset(HASH, FIELD, VALUE)
    yield subject
    await subject.delete(LAST_USES, HASH)
    await subject.aclose()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_vectors_that_are_kept_are_found_by_their_keys(client: redis.asyncio.Redis):
    a, b, c = new_keys(3)
    rows = {a: vector(0), b: vector(1)}
    await keep(client, rows, 100, 10, MET)
    assert await find(client, [c, b, a], DIMENSIONS) == rows
    assert 90 < await client.ttl(PREFIX + a) <= 100
    assert 90 < await client.ttl(LAST_USES) <= 100


async def test_vectors_beyond_the_most_are_deleted_by_last_use(client: redis.asyncio.Redis):
    a, b, c, d = new_keys(4)
    for axis, key in enumerate((a, b, c)):
        await keep(client, {key: vector(axis)}, 100, 3, MET)
    assert await find(client, [a], DIMENSIONS) == {a: vector(0)}
    await keep(client, {d: vector(3)}, 100, 3, MET)
    assert set(await find(client, [a, b, c, d], DIMENSIONS) or {}) == {a, c, d}
    assert await client.exists(PREFIX + b) == 0
    many = dict.fromkeys(new_keys(20), vector(0))
    await keep(client, many, 100, 3, MET)
    assert await client.zcard(LAST_USES) == 3
    assert await client.exists(*[PREFIX + key for key in (a, c, d, *many)]) == 3


async def test_looking_for_a_vector_that_is_not_there_leaves_no_trace(client: redis.asyncio.Redis):
    assert await find(client, new_keys(2), DIMENSIONS) == {}
    assert await client.zcard(LAST_USES) == 0


@pytest.mark.parametrize("value", [VALUE + "x", "", None])
async def test_vectors_are_not_kept_unless_the_condition_is_met(
    client: redis.asyncio.Redis, value: str | None
):
    await client.delete(HASH)
    if value is not None:
        await client.hset(HASH, FIELD, value)
    (key,) = new_keys(1)
    await keep(client, {key: vector(0)}, 100, 10, MET)
    assert await find(client, [key], DIMENSIONS) == {}


@pytest.mark.parametrize(
    "garbage",
    [b"", b"x", vector(0)[:-1], vector(0) * 2, bytes(16), b"\xff" * 16, vector(0)[:-4] + b"abcd"],
)
async def test_garbage_under_a_key_is_a_miss(client: redis.asyncio.Redis, garbage: bytes):
    (key,) = new_keys(1)
    await client.set(PREFIX + key, garbage, ex=100)
    assert await find(client, [key], DIMENSIONS) == {}


async def test_values_of_another_type_are_a_miss(client: redis.asyncio.Redis):
    (key,) = new_keys(1)
    await client.hset(PREFIX + key, "a", "b")
    await client.set(LAST_USES, "not a sorted set")
    assert await find(client, [key], DIMENSIONS) is None
    await keep(client, {key: vector(0)}, 100, 10, MET)  # no error
    await client.delete(LAST_USES, PREFIX + key)


@pytest.mark.parametrize("is_silent", [True, False])
async def test_redis_that_is_away_is_a_miss_in_time(
    silent_port: int, is_silent: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vectors, "PATIENCE_SECONDS", 0.05)
    away = redis.asyncio.Redis(port=silent_port if is_silent else 1)
    (key,) = new_keys(1)
    async with asyncio.timeout(5):
        assert await find(away, [key], DIMENSIONS) is None
        await keep(away, {key: vector(0)}, 100, 10, MET)
    await away.aclose()


async def test_client_that_leaves_while_redis_is_asked_is_noticed(silent_port: int):
    away = redis.asyncio.Redis(port=silent_port)
    task = asyncio.create_task(find(away, new_keys(1), DIMENSIONS))
    await asyncio.wait([task], timeout=0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await away.aclose()


def test_key_differs_with_the_embedder_and_the_text():
    keys = {
        key_of(("w", 4, ("auto",)), [1, 2]),
        key_of(("w", 4, ("auto",)), [12]),
        key_of(("w", 4, ("auto",)), [1, 2, 3]),
        key_of(("x", 4, ("auto",)), [1, 2]),
        key_of(("w", 4, ("off",)), [1, 2]),
    }
    assert len(keys) == 5
    assert key_of(("w", 4, ("auto",)), [1, 2]) in keys
