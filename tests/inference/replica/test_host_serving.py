"""A host serves: queue → host → reader, with the text that the model says alone."""

from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from inference.messages import Failed, Finished
from inference.queue import keys
from inference.queue.blame import PROVEN_TOKENS
from inference.queue.claims import HostClaims
from inference.replica import host as host_module
from tests.inference.queue.redis_connections import cut_connections
from tests.inference.queue.world import QueueWorld
from tests.inference.replica.running_host import (
    RunningHost,
    check_whole,
    read_all,
    token_ids,
)
from tests.waiting import wait_until


def test_generations_beside_each_other_say_what_they_say_alone(world: QueueWorld) -> None:
    items = [
        world.generation(f"prompt {index} " * (1 + 30 * (index % 3)), max_tokens=5 + 7 * index)
        for index in range(9)
    ]
    with RunningHost(world) as host:
        world.enqueue(*items)
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)
    assert host.ending is None
    assert not world.redis.exists(*(keys.item(item.id) for item in items))


def test_a_host_takes_no_more_than_it_has_room_for(world: QueueWorld) -> None:
    with RunningHost(world, paced=True, max_items=2) as host:
        items = [world.generation(max_tokens=60) for _ in range(3)]
        world.enqueue(*items)
        host.advance(items[1], 1)
        assert world.waiting() == [items[2].id]
        host.pace.allow(float("inf"))
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)


def test_a_full_host_takes_what_outranks_its_work(world: QueueWorld) -> None:
    with RunningHost(world, paced=True, max_items=4) as host:
        batch = [world.generation(f"batch {n}", max_tokens=60, priority=1) for n in range(5)]
        world.enqueue(*batch)
        host.advance(batch[3], 1)
        urgent = world.enqueued("urgent", max_tokens=5, priority=3)
        host.advance(urgent, 5)
        assert world.waiting() == [batch[4].id]
        assert host.engine.running_sequences >= 3
        host.pace.allow(float("inf"))
        for item, entries in zip([urgent, *batch], read_all(urgent, *batch), strict=True):
            check_whole(item, entries)


def test_cancel_of_a_running_one_frees_it_and_reports_what_was_generated(
    world: QueueWorld,
) -> None:
    with RunningHost(world, paced=True) as host:
        other = world.enqueued("other", max_tokens=30)
        item = world.enqueued(max_tokens=2000)
        host.advance(item, 2)
        assert world.cancel(item)
        wait_until(lambda: not world.redis.exists(keys.control(host.launch_id)))
        host.pace.allow(float("inf"))
        entries, beside = read_all(item, other)
        check_whole(other, beside)
        wait_until(lambda: host.engine.running_sequences == 0)
    last = entries[-1][1]
    assert isinstance(last, Finished)
    assert last.reason == "cancelled"
    assert last.usage.completion_tokens == len(token_ids(entries))
    assert 0 < len(token_ids(entries)) < 2000
    assert not world.redis.exists(keys.item(item.id))
    host.engine.check_integrity()


def test_an_item_that_waited_too_long_is_told_so_and_not_run(world: QueueWorld) -> None:
    with RunningHost(world) as host:
        item = world.generation()
        world.enqueue(item, queue_timeout_seconds=-1.0)
        ((entry,),) = read_all(item)
    assert entry[0] == 1
    assert isinstance(entry[1], Failed)
    assert entry[1].code == "queue_timeout"
    assert host.backend.decoded_batches == []
    assert not world.redis.exists(keys.item(item.id))


def test_the_heartbeat_shows_live_figures(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        world.enqueued(max_tokens=3)
        wait_until(lambda: world.redis.hget(keys.host(host.launch_id), "running") == b"1")
        facts = world.redis.hgetall(keys.host(host.launch_id))
    assert facts[b"node"] == b"test"
    assert facts[b"version_key"] == world.version_key.encode()


def test_an_idle_host_asks_redis_little_and_serves_what_comes(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("heartbeat", "publish", "give_back_unknown"):
        method = getattr(HostClaims, name)

        def record(*arguments: Any, _name: str = name, _method: Any = method, **named: Any) -> Any:
            called.append(_name)
            return _method(*arguments, **named)

        monkeypatch.setattr(HostClaims, name, record)
    with RunningHost(world):
        wait_until(lambda: called.count("heartbeat") >= 8)
        assert called.count("publish") <= called.count("heartbeat") / 2
        assert called.count("give_back_unknown") == 1
        item = world.enqueued(max_tokens=4)
        check_whole(item, *read_all(item))
        beats = called.count("heartbeat")
        wait_until(lambda: called.count("heartbeat") >= beats + 2)
        assert called.count("give_back_unknown") > 1


@pytest.mark.parametrize("redis_options", [{}, {"retry": Retry(NoBackoff(), 0)}])
def test_connections_cut_in_the_middle_lose_nothing(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch, redis_options: dict[str, Any]
) -> None:
    monkeypatch.setattr(host_module, "REDIS_RETRY_SECONDS", 0.01)
    items = [world.generation(f"prompt {index}", max_tokens=60) for index in range(6)]
    cuts = 0
    with RunningHost(world, paced=True, redis_options=redis_options) as host:
        world.enqueue(*items)
        for _ in range(8):
            host.advance(items[0], 2)
            cuts += cut_connections(host.client_name)
        host.pace.allow(float("inf"))
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)
    assert host.ending is None
    assert cuts > 4


def test_a_claim_whose_reply_was_lost_is_served_all_the_same(world: QueueWorld) -> None:
    with RunningHost(world, paced=True, max_items=1) as host:
        running, lost = world.enqueued(max_tokens=4), world.enqueued(max_tokens=4)
        wait_until(lambda: world.waiting() == [lost.id])
        twin = HostClaims(world.redis, host.launch_id, world.version_key)
        ((taken, _),), _ = twin.claim(1, may_take_suspect=True)
        assert taken.id == lost.id
        wait_until(lambda: world.waiting() == [lost.id])  # given back with a heartbeat
        host.pace.allow(float("inf"))
        for item, entries in zip((running, lost), read_all(running, lost), strict=True):
            check_whole(item, entries)


def test_an_item_that_waits_again_although_it_runs_is_run_once(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        item = world.enqueued(max_tokens=60)
        host.advance(item, 2)
        # As in a Redis that came back without its last second.
        world.redis.zadd(keys.queue(world.version_key), {item.id: 0})
        wait_until(lambda: world.waiting() == [])
        host.pace.allow(float("inf"))
        check_whole(item, *read_all(item))


def test_the_claim_is_marked_once_it_is_proven(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        item = world.enqueued(max_tokens=60)
        claims = keys.claims(host.launch_id)
        host.advance(item, 1)
        assert world.redis.hget(claims, item.id) == b"0"
        host.advance(item, PROVEN_TOKENS)
        assert world.redis.hget(claims, item.id) == b"1"
