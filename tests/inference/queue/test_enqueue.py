"""Items are queued or refused, and have their place."""

import pytest

from inference.errors import ModelBusyError, ModelLoadingError
from inference.messages import Finished, Started, Usage
from inference.queue import keys
from inference.queue.claims import LAST
from inference.queue.queue import head_start_seconds
from tests.inference.queue.world import QueueWorld


def test_enqueue_without_a_host_says_loading(world: QueueWorld) -> None:
    with pytest.raises(ModelLoadingError, match=world.version_key):
        world.enqueued()
    assert world.waiting() == []


def test_enqueue_while_the_host_loads_says_loading(world: QueueWorld) -> None:
    world.host(ready=False)
    with pytest.raises(ModelLoadingError):
        world.enqueued()


def test_enqueue_does_not_count_a_silent_host(world: QueueWorld) -> None:
    host = world.host()
    world.redis.zincrby(keys.ready(world.version_key), -6, host.launch_id)  # lease: 5 s
    with pytest.raises(ModelLoadingError):
        world.enqueued()
    host.beat()
    world.enqueued()


def test_enqueue_beyond_the_limit_says_busy_and_takes_none(world: QueueWorld) -> None:
    world.host()
    first = world.enqueued()
    items = [world.generation() for _ in range(3)]
    with pytest.raises(ModelBusyError, match="full") as caught:
        world.enqueue(*items, max_queue_size=3)
    assert caught.value.retry_after_ms == 1000
    assert world.waiting() == [first.id]
    assert not any(world.redis.exists(keys.item(item.id)) for item in items)
    world.enqueue(*items, max_queue_size=4)
    assert len(world.waiting()) == 4


def test_enqueue_rings_once_for_each_item_and_keeps_the_bell_short(world: QueueWorld) -> None:
    world.host()
    world.enqueue(*(world.generation() for _ in range(3)))
    assert world.redis.llen(keys.bell(world.version_key)) == 3
    world.enqueue(*(world.generation() for _ in range(100)), max_queue_size=1000)
    assert world.redis.llen(keys.bell(world.version_key)) == 64


def test_enqueue_lets_items_expire_some_day(world: QueueWorld) -> None:
    world.host()
    item = world.enqueued()
    ttl_seconds = world.redis.ttl(keys.item(item.id))
    settings = world.settings
    assert ttl_seconds > settings.queue_timeout_seconds + settings.request_timeout_seconds


def test_enqueue_repeated_after_a_lost_reply_queues_once(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    assert host.claim() == [item.id]
    world.enqueue(item)
    assert host.claim() == []
    host.publish(item, 1, Started(5))
    host.publish(item, 2, Finished("stop", Usage(5, 1)), LAST)
    world.enqueue(item)
    assert host.claim() == []


def test_keep_alive_counts_once_the_request_is_queued(world: QueueWorld) -> None:
    def kept() -> bytes | None:
        return world.redis.hget(keys.KEEP_ALIVE, world.version_key)  # type: ignore[return-value]

    first, second = world.generation(), world.generation()
    try:
        with pytest.raises(ModelLoadingError):
            world.with_queue(lambda queue: queue.enqueue([first], 90))
        assert kept() is None
        world.host()
        world.with_queue(lambda queue: queue.enqueue([first], 90))
        assert kept() == b"90"
        world.enqueue(second)  # names none
        assert kept() == b"90"
        assert sorted(world.waiting()) == sorted([first.id, second.id])
    finally:
        world.redis.hdel(keys.KEEP_ALIVE, world.version_key)


@pytest.mark.parametrize("priority", [1, 2, 3])
def test_fifo_gives_no_head_start(priority: int) -> None:
    assert head_start_seconds("fifo", priority, 30) == 0


@pytest.mark.parametrize(("priority", "expected"), [(1, 0), (2, 30), (3, 60)])
def test_priority_gives_ageing_seconds_for_each_level(priority: int, expected: float) -> None:
    assert head_start_seconds("priority", priority, 30) == expected
