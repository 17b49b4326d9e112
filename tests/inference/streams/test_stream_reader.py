"""Many token streams are followed over one connection, without a gap."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from inference.errors import InternalError, TemporaryResourceError
from inference.messages import Delta, Finished, Frame, Generation, Started, Usage, encode
from inference.queue import keys
from inference.streams import reader as reader_module
from inference.streams.reader import Followed, StreamReader
from tests.inference.queue.redis_connections import cut_connections, new_client_name
from tests.inference.queue.world import QueueWorld

ENDED = Finished("stop", Usage(1, 1))
Entry = tuple[int, Frame]


def _patient(url: str, name: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, client_name=name)


def _impatient(url: str, name: str) -> redis.asyncio.Redis:
    return redis.asyncio.Redis.from_url(url, client_name=name, retry=Retry(NoBackoff(), 0))


@pytest.fixture
async def writer() -> AsyncIterator[redis.asyncio.Redis]:
    """Writes frames."""
    async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
        yield client


@pytest.fixture
def client_name() -> str:
    """The name of the reader's connections."""
    return new_client_name()


@pytest.fixture
async def reader(client_name: str) -> AsyncIterator[StreamReader]:
    """A reader on a connection of its own."""
    async with _patient(settings.REDIS_URL, client_name) as client:
        reader = StreamReader(client)
        yield reader
        await reader.close()


def frames_of(count: int) -> list[Frame]:
    """A whole stream of ``count`` frames."""
    return [Started(1), *(Delta(f"{n} ", [n]) for n in range(count - 2)), ENDED]


async def write(
    client: redis.asyncio.Redis, item: Generation, frames: list[Frame], after: int = 0
) -> None:
    """Append frames, numbered from ``after`` + 1."""
    pipeline = client.pipeline(transaction=False)
    for number, frame in enumerate(frames, start=after + 1):
        pipeline.xadd(keys.stream(item.id), {"f": encode(frame)}, id=f"{number}-0")
    await pipeline.execute()


async def read(followed: Followed, count: int) -> list[Entry]:
    """The next frames of the only stream that is followed."""
    async with asyncio.timeout(10):
        return [(await followed.next())[1:] for _ in range(count)]


def numbered(frames: list[Frame], after: int = 0) -> list[Entry]:
    """Frames as they are to be delivered."""
    return list(enumerate(frames, start=1))[after:]


async def wait_until_blocked(client: redis.asyncio.Redis, client_name: str) -> None:
    """Wait until a reader sleeps in a read."""
    async with asyncio.timeout(10):
        while True:
            listed = await client.client_list()
            if any(e["name"] == client_name and "b" in e["flags"] for e in listed):
                return


async def test_64_streams_are_read_in_order_without_gap_or_mixture(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    items = [world.generation() for _ in range(64)]
    expected = {
        item.id: [Started(index), *(Delta(f"{index}", [n]) for n in range(18)), ENDED]
        for index, item in enumerate(items)
    }

    async def follow_one(item: Generation) -> tuple[str, list[Entry]]:
        async with reader.follow({item.id: 0}) as followed:
            return item.id, await read(followed, 20)

    async def write_all() -> None:
        chance = random.Random(7)
        positions = dict.fromkeys(expected, 0)
        while open_items := [item for item in items if positions[item.id] < 20]:
            for item in chance.sample(open_items, k=min(20, len(open_items))):
                at = positions[item.id]
                some = expected[item.id][at : at + chance.randrange(1, 5)]
                await write(writer, item, some, after=at)
                positions[item.id] += len(some)

    *results, _ = await asyncio.gather(*(follow_one(item) for item in items), write_all())
    assert dict(results) == {item_id: numbered(frames) for item_id, frames in expected.items()}


async def test_one_follower_reads_several_streams(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    items = [world.generation() for _ in range(3)]
    for item in items:
        await write(writer, item, frames_of(4))
    async with reader.follow({item.id: 0 for item in items}) as followed, asyncio.timeout(10):
        entries = [await followed.next() for _ in range(12)]
    for item in items:
        own = [(number, frame) for item_id, number, frame in entries if item_id == item.id]
        assert own == numbered(frames_of(4))


@pytest.mark.parametrize("after", [0, 1, 3, 9])
async def test_follow_begins_after_the_frame_last_seen(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis, after: int
) -> None:
    item = world.generation()
    await write(writer, item, frames_of(10))
    async with reader.follow({item.id: after}) as followed:
        assert await read(followed, 10 - after) == numbered(frames_of(10), after)


async def test_followers_of_one_stream_each_see_all_from_where_they_began(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    item = world.generation()
    frames = frames_of(8)
    async with reader.follow({item.id: 0}) as early:
        await write(writer, item, frames[:4])
        assert await read(early, 4) == numbered(frames)[:4]
        async with reader.follow({item.id: 0}) as late, reader.follow({item.id: 2}) as middle:
            await write(writer, item, frames[4:], after=4)
            assert await read(early, 4) == numbered(frames, 4)
            assert await read(late, 8) == numbered(frames)
            assert await read(middle, 6) == numbered(frames, 2)


async def test_follower_that_comes_during_a_read_misses_nothing(
    world: QueueWorld,
    reader: StreamReader,
    writer: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    item = world.generation()
    frames = frames_of(4)
    async with reader.follow({item.id: 0}) as early:
        await write(writer, item, frames[:2])
        await read(early, 2)
        ring = reader._ring

        async def ring_late() -> None:
            # The read in progress began after frame 2, and ends with frames 3 and 4.
            await write(writer, item, frames[2:], after=2)
            await read(early, 2)
            await ring()

        monkeypatch.setattr(reader, "_ring", ring_late)
        async with reader.follow({item.id: 0}) as late:
            assert await read(late, 4) == numbered(frames)


async def test_a_new_follower_does_not_wait_for_the_read_in_progress(
    world: QueueWorld,
    reader: StreamReader,
    writer: redis.asyncio.Redis,
    client_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_module, "BLOCK_SECONDS", 60.0)
    silent, item = world.generation(), world.generation()
    await write(writer, item, frames_of(3))
    async with reader.follow({silent.id: 0}):
        await wait_until_blocked(writer, client_name)
        async with reader.follow({item.id: 0}) as followed:
            assert await read(followed, 3) == numbered(frames_of(3))


async def test_an_ended_stream_is_followed_no_more(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    item = world.generation()
    await write(writer, item, [*frames_of(3), Delta("never", [1])])
    async with reader.follow({item.id: 0}) as followed:
        assert await read(followed, 3) == numbered(frames_of(3))
        assert reader._subscriptions == {}
        assert followed.entries.empty()


async def test_leaving_early_stops_the_reading(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    item = world.generation()
    async with reader.follow({item.id: 0}) as followed:
        await write(writer, item, [Started(1)])
        await read(followed, 1)
    assert reader._subscriptions == {}


async def test_leaving_while_the_bell_is_rung_leaves_nothing(
    world: QueueWorld, reader: StreamReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    items = [world.generation() for _ in range(2)]
    async with reader.follow({items[0].id: 0}):
        monkeypatch.setattr(reader, "_ring", cancelled)
        with pytest.raises(asyncio.CancelledError):
            async with reader.follow({items[1].id: 0}):
                pass
        assert list(reader._subscriptions) == [keys.stream(items[0].id)]


async def test_a_lost_item_is_told_and_one_that_waits_is_not(
    world: QueueWorld,
    reader: StreamReader,
    writer: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader_module, "SILENCE_SECONDS", 0.05)
    monkeypatch.setattr(reader_module, "BLOCK_SECONDS", 0.02)
    lost, waiting = world.generation(), world.generation()
    await writer.hset(keys.item(waiting.id), "payload", "x")
    async with reader.follow({waiting.id: 0}) as patient, reader.follow({lost.id: 0}) as followed:
        await write(writer, lost, [Started(1)])
        assert await read(followed, 1) == [(1, Started(1))]
        with pytest.raises(TemporaryResourceError, match="lost"):
            await read(followed, 1)
        assert patient.entries.empty()
        await write(writer, waiting, frames_of(2))
        assert await read(patient, 2) == numbered(frames_of(2))


async def test_a_frame_that_cannot_be_read_ends_its_stream_alone(
    world: QueueWorld, reader: StreamReader, writer: redis.asyncio.Redis
) -> None:
    bad, good = world.generation(), world.generation()
    async with reader.follow({bad.id: 0}) as broken, reader.follow({good.id: 0}) as followed:
        await writer.xadd(keys.stream(bad.id), {"f": b"\xc1"}, id="1-0")
        with pytest.raises(InternalError):
            await read(broken, 1)
        await write(writer, good, frames_of(3))
        assert await read(followed, 3) == numbered(frames_of(3))


@pytest.mark.parametrize("connect", [_patient, _impatient])
async def test_cut_connections_lose_nothing(
    world: QueueWorld,
    writer: redis.asyncio.Redis,
    client_name: str,
    monkeypatch: pytest.MonkeyPatch,
    connect: Callable[[str, str], redis.asyncio.Redis],
) -> None:
    monkeypatch.setattr(reader_module, "RETRY_SECONDS", 0.01)
    item = world.generation()
    frames = frames_of(12)
    cuts = 0
    async with connect(settings.REDIS_URL, client_name) as client:
        reader = StreamReader(client)
        async with reader.follow({item.id: 0}) as followed:
            for start in range(0, 12, 3):
                await write(writer, item, frames[start : start + 3], after=start)
                assert await read(followed, 3) == numbered(frames)[start : start + 3]
                cuts += await asyncio.to_thread(cut_connections, client_name)
        await reader.close()
    assert cuts


async def test_a_long_outage_is_told_to_all_who_wait(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "OUTAGE_SECONDS", 0.03)
    monkeypatch.setattr(reader_module, "RETRY_SECONDS", 0.01)
    async with _impatient("unix:///nowhere/redis.sock", "nobody") as client:
        reader = StreamReader(client)
        items = [world.generation() for _ in range(2)]
        async with reader.follow({items[0].id: 0}) as one, reader.follow({items[1].id: 0}) as two:
            for followed in (one, two):
                with pytest.raises(TemporaryResourceError, match="cannot reach Redis"):
                    await read(followed, 1)
        await reader.close()
