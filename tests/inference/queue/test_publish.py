"""How frames get into streams, and what a host says of itself."""

import random
from collections.abc import Iterator

import pytest
import redis

from inference.messages import Cancel, Delta, Drain, Failed, Finished, Started, Usage, encode
from inference.queue import keys
from inference.queue.claims import LAST, PROVEN, SERVED, Numbered, Pending
from tests.inference.queue.world import STREAM_TTL_SECONDS, QueueWorld

ENDED = Finished("stop", Usage(5, 2))


def test_publish_appends_numbered_frames(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    host.say(item, "a", "b")
    assert world.frames(item) == [
        (1, Started(5)),
        (2, Delta("a", [ord("a")])),
        (3, Delta("b", [ord("b")])),
    ]


def test_publish_repeated_after_a_lost_reply_changes_nothing(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    batch = [Numbered(item.id, 1, Started(5)), Numbered(item.id, 2, Delta("a", [97]), PROVEN)]
    host.claims.publish(batch, 60)
    host.claims.publish([*batch, Numbered(item.id, 3, ENDED, LAST)], 60)
    host.claims.publish([Numbered(item.id, 3, ENDED, LAST)], 60)
    assert [number for number, _ in world.frames(item)] == [1, 2, 3]
    assert not world.redis.exists(keys.item(item.id), keys.claims(host.launch_id))


def test_publish_marks_a_proven_claim(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    host.publish(item, 1, Delta("a", [97]), PROVEN)
    assert world.redis.hgetall(keys.claims(host.launch_id)) == {item.id.encode(): b"1"}


def test_publish_of_the_last_frame_ends_claim_and_item_and_keeps_the_stream_for_a_while(
    world: QueueWorld,
) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    host.publish(item, 1, Started(5))
    assert world.redis.ttl(keys.stream(item.id)) > STREAM_TTL_SECONDS
    host.publish(item, 2, ENDED, LAST)
    assert 0 < world.redis.ttl(keys.stream(item.id)) <= STREAM_TTL_SECONDS
    assert not world.redis.exists(keys.item(item.id), keys.claims(host.launch_id))


def test_publish_never_leaves_a_gap_in_silence(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    world.redis.set(keys.stream(item.id), "not a stream")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        host.publish(item, 1, ENDED, LAST)
    assert world.redis.exists(keys.item(item.id))


def test_heartbeat_shows_who_serves(world: QueueWorld) -> None:
    host = world.host(ready=False)
    ready = keys.ready(world.version_key)
    assert world.redis.zscore(keys.HOSTS, host.launch_id)
    assert world.redis.zscore(ready, host.launch_id) is None
    host.beat()
    assert world.redis.zscore(ready, host.launch_id)
    facts = world.redis.hgetall(keys.host(host.launch_id))
    assert facts == {b"version_key": world.version_key.encode(), b"node": b"test"}
    assert world.redis.ttl(keys.host(host.launch_id)) > 0
    host.beat(ready=False)
    assert world.redis.zscore(ready, host.launch_id) is None


def test_messages_reach_a_host_in_order_whether_it_sleeps_or_not(world: QueueWorld) -> None:
    host = world.host()
    control = keys.control(host.launch_id)
    world.redis.rpush(control, encode(Cancel("a")), encode(Cancel("b")))
    assert host.claims.controls() == [Cancel("a"), Cancel("b")]
    assert host.claims.controls() == []
    world.redis.rpush(control, encode(Cancel("c")), encode(Drain()))
    assert host.claims.wait(5) == [Cancel("c"), Drain()]


def test_a_bell_wakes_a_sleeping_host(world: QueueWorld) -> None:
    host = world.host()
    world.enqueued()
    assert host.claims.wait(5) == []
    assert world.redis.llen(keys.bell(world.version_key)) == 0


def test_leave_forgets_the_host(world: QueueWorld) -> None:
    host = world.host()
    world.redis.rpush(keys.control(host.launch_id), encode(Drain()))
    host.claims.leave()
    assert not world.redis.exists(*world.keys_of_launch(host.launch_id))
    assert world.redis.zscore(keys.HOSTS, host.launch_id) is None
    assert world.redis.zscore(keys.ready(world.version_key), host.launch_id) is None


def test_publish_tells_what_waits_for_the_host(world: QueueWorld) -> None:
    host = world.host()
    assert host.claims.publish([], 60) == Pending(messages=0, items=0)
    running = world.enqueued()
    host.claim()
    world.cancel(running)
    world.enqueued()
    world.enqueued()
    pending = host.claims.publish([Numbered(running.id, 1, Started(5))], 60)
    assert pending == Pending(messages=1, items=2)


@pytest.fixture
def ledger(world: QueueWorld) -> Iterator[str]:
    """The name of the ledger of a day of its own."""
    name = keys.ledger(random.randrange(10**6, 10**9))
    yield name
    world.redis.delete(name)


def computed(world: QueueWorld, ledger: str) -> tuple[int, int]:
    """Computed prompt and completion tokens in a ledger."""
    found = world.redis.hmget(ledger, "computed_prompt", "computed_completion")
    return int(found[0] or 0), int(found[1] or 0)


def ending_of(tokens: int) -> Usage:
    """Usage with different computed tokens."""
    return Usage(5, 2, computed_prompt_tokens=tokens, computed_completion_tokens=tokens + 1)


def test_publish_adds_the_computed_tokens_of_last_frames_to_the_ledger_once(
    world: QueueWorld, ledger: str
) -> None:
    host = world.host()
    items = [world.enqueued() for _ in range(3)]
    host.claim()
    world.redis.hset(ledger, "since", 1)
    for item in items:
        world.redis.hset(keys.item(item.id), "day", ledger.rpartition(":")[2])
    lasts = [
        Numbered(items[0].id, 1, Finished("stop", ending_of(100)), SERVED),
        Numbered(items[1].id, 1, Failed("grammar_failed", "", usage=ending_of(10)), LAST),
        Numbered(items[2].id, 1, Failed("queue_timeout", ""), LAST),
    ]
    host.claims.publish(lasts, 60)
    assert computed(world, ledger) == (110, 112)
    # An attempt whose reply was lost, then one whose item was queued anew meanwhile.
    host.claims.publish(lasts, 60)
    world.redis.hset(keys.item(items[0].id), "day", ledger.rpartition(":")[2])
    host.claims.publish(lasts, 60)
    assert computed(world, ledger) == (110, 112)


@pytest.mark.parametrize(("day", "ledger_exists"), [(False, True), (True, False)])
def test_publish_counts_nothing_without_a_day_or_a_ledger(
    world: QueueWorld, ledger: str, day: bool, ledger_exists: bool
) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    if ledger_exists:
        world.redis.hset(ledger, "since", 1)
    if day:
        world.redis.hset(keys.item(item.id), "day", ledger.rpartition(":")[2])
    host.publish(item, 1, Finished("stop", ending_of(100)), SERVED)
    assert computed(world, ledger) == (0, 0)
    assert world.redis.exists(ledger) == ledger_exists
    assert [number for number, _ in world.frames(item)] == [1]
