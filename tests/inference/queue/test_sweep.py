"""Claims of dead hosts come back, once, and go on where they were."""

from typing import Any

import pytest

from inference.messages import Delta, Embedding, Failed, Finished, Started, Usage
from inference.queue import keys
from inference.queue.claims import LAST, PROVEN, Requeue
from inference.queue.sweep import FENCED_SECONDS
from tests.inference.queue.world import QueueWorld


def test_sweep_gives_up_a_host_whose_lease_ran_out(world: QueueWorld) -> None:
    silent, living = world.host(), world.host()
    item = world.enqueued()
    assert silent.claim() == [item.id]
    assert silent.launch_id not in world.sweep.run()
    world.redis.zincrby(keys.HOSTS, -world.settings.lease_seconds, silent.launch_id)
    lost = world.sweep.run()
    assert silent.launch_id in lost
    fenced_seconds = int(world.redis.ttl(keys.fenced(silent.launch_id)))
    assert FENCED_SECONDS - 60 < fenced_seconds <= FENCED_SECONDS
    assert living.launch_id not in lost
    assert world.waiting() == [item.id]
    assert silent.launch_id not in world.sweep.run()
    members: Any = world.redis.zrange(keys.ready(world.version_key), 0, -1)
    assert members == [living.launch_id.encode()]


def test_sweep_gives_back_tokens_and_frame_numbers(world: QueueWorld) -> None:
    dying, next_host = world.host(), world.host()
    item = world.enqueued()
    dying.claim()
    dying.say(item, "abc", "de")
    dying.die()
    world.sweep.run()
    again = next_host.take()
    assert again.emitted_token_ids == list(b"abcde")
    assert again.emitted_frames == 3
    assert again.crashes == 1
    next_host.publish(again, again.emitted_frames + 1, Finished("stop", Usage(5, 5)), LAST)
    assert [number for number, _ in world.frames(item)] == [1, 2, 3, 4]


def test_sweep_gives_back_to_the_old_place(world: QueueWorld) -> None:
    dying = world.host()
    claimed = [world.enqueued().id for _ in range(3)]
    assert dying.claim() == claimed
    behind = world.enqueued().id
    dying.die()
    bell = keys.bell(world.version_key)
    world.redis.delete(bell)
    world.sweep.run()
    assert world.waiting() == [*claimed, behind]
    assert world.redis.llen(bell) == len(claimed)  # wakes those who sleep


def test_sweep_carries_tokens_over_two_deaths(world: QueueWorld) -> None:
    first, second, third = (world.host() for _ in range(3))
    item = world.enqueued()
    first.claim()
    first.say(item, "ab")
    first.die()
    world.sweep.run()
    again = second.take()
    second.publish(again, 3, Delta("c", [ord("c")]), PROVEN)
    second.die()
    world.sweep.run()
    last = third.take()
    assert last.emitted_token_ids == list(b"abc")
    assert last.emitted_frames == 3
    assert last.crashes == 1  # proven on the second host: innocent of the first death


def test_sweep_gives_embeddings_back(world: QueueWorld) -> None:
    dying, next_host = world.host(), world.host()
    item = Embedding(world.generation().id, world.version_key, [[1]])
    world.with_queue(lambda queue: queue.enqueue([item]))
    dying.claim()
    dying.die()
    world.sweep.run()
    ((again, _),), _ = next_host.claims.claim(1, may_take_suspect=True)
    assert again == Embedding(item.id, item.version_key, item.inputs, crashes=1)


def test_a_generation_that_killed_two_hosts_fails_as_poison(world: QueueWorld) -> None:
    first, second = world.host(), world.host()
    poison, innocent = world.enqueued(), world.enqueued()
    first.claim()
    first.say(poison, "a")
    first.die()
    world.sweep.run()
    assert second.claim() == [poison.id]
    assert second.claim() == [innocent.id]  # as if the poison had been proven
    world.redis.hset(keys.claims(second.launch_id), innocent.id, 1)
    second.die()
    world.sweep.run()
    number, last = world.frames(poison)[-1]
    assert number == 3
    assert isinstance(last, Failed)
    assert last.code == "poison_request"
    assert last.usage == Usage(5, 1)
    assert not world.redis.exists(keys.item(poison.id))
    assert world.waiting() == [innocent.id]
    assert world.field(innocent, "crashes") == b"0"


def test_an_item_lost_from_redis_fails_as_host_lost(world: QueueWorld) -> None:
    dying = world.host()
    item = world.enqueued()
    dying.claim()
    dying.say(item, "ab")
    world.redis.delete(keys.item(item.id))
    dying.die()
    world.sweep.run()
    number, last = world.frames(item)[-1]
    assert number == 3
    assert isinstance(last, Failed)
    assert last.code == "host_lost"
    assert last.usage == Usage(5, 2)
    assert world.redis.ttl(keys.stream(item.id)) > 0


def test_a_stream_that_has_ended_is_left_as_it_is(world: QueueWorld) -> None:
    dying = world.host()
    kept, lost = world.enqueued(), world.enqueued()
    dying.claim()
    for item in (kept, lost):
        # Ended without the mark: as if the claim had been written again after an outage.
        dying.publish(item, 1, Started(5))
        dying.publish(item, 2, Finished("stop", Usage(5, 1)))
    world.redis.delete(keys.item(lost.id))
    dying.die()
    world.sweep.run()
    assert world.waiting() == []
    for item in (kept, lost):
        assert [number for number, _ in world.frames(item)] == [1, 2]


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_sweep_that_died_half_way_is_made_good_by_the_next(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    dying, next_host = world.host(), world.host()
    items = [world.enqueued() for _ in range(3)]
    world.age(*items)
    dying.claim()
    for item in items:
        dying.say(item, "ab")
    dying.die()
    calls = 0
    real = Requeue.__call__

    def broken(self: Requeue, *args: Any) -> None:
        nonlocal calls
        if calls == done:
            raise ConnectionResetError
        calls += 1
        real(self, *args)

    monkeypatch.setattr(Requeue, "__call__", broken)
    with pytest.raises(ConnectionResetError):
        world.sweep.run()
    monkeypatch.undo()
    assert len(world.waiting()) == done
    taken_early = next_host.claim(1)  # the queue is in use meanwhile
    world.sweep.run()
    assert sorted([*taken_early, *world.waiting()]) == sorted(item.id for item in items)
    assert not world.redis.exists(keys.claims(dying.launch_id))
    assert not world.redis.sismember(keys.DEAD, dying.launch_id)


def test_a_claim_that_another_host_has_by_now_is_not_touched(world: QueueWorld) -> None:
    cut_off, next_host = world.host(), world.host()
    item = world.enqueued()
    cut_off.claim()
    cut_off.die()
    world.sweep.run()
    assert next_host.claim() == [item.id]
    # The one cut off comes back, unaware, and is found again by a sweep with its old claim.
    world.redis.hset(keys.claims(cut_off.launch_id), item.id, 0)
    cut_off.die()
    world.sweep.run()
    assert world.waiting() == []
    assert world.frames(item) == []
    assert world.field(item, "owner") == next_host.launch_id.encode()


def test_a_host_that_left_in_order_blames_nobody(world: QueueWorld) -> None:
    leaving, next_host = world.host(), world.host()
    items = [world.enqueued() for _ in range(2)]
    leaving.claim()
    leaving.say(items[0], "ab")
    leaving.claims.abandon(crashed=False)
    world.sweep.run()
    world.redis.hset(keys.item(items[0].id), "deadline", 0)  # met: it has begun to answer
    assert next_host.claim() == [item.id for item in items]
    assert [world.field(item, "crashes") for item in items] == [b"0", b"0"]
