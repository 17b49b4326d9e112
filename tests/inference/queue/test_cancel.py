"""A generation is stopped wherever it is."""

from inference.messages import Cancel, Finished, Usage
from inference.queue import keys
from inference.queue.claims import LAST
from tests.inference.queue.world import QueueWorld


def test_cancel_of_a_waiting_one_ends_it(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    assert world.cancel(item)
    assert world.frames(item) == [(1, Finished("cancelled", Usage(0, 0)))]
    assert world.waiting() == []
    assert not world.redis.exists(keys.item(item.id))
    assert world.redis.ttl(keys.stream(item.id)) > 0
    assert host.claim() == []


def test_cancel_of_a_running_one_tells_its_host(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    assert world.cancel(item)
    assert host.claims.controls() == [Cancel(item.id)]
    assert world.frames(item) == []


def test_cancel_of_an_ended_one_says_so(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    host.publish(item, 1, Finished("stop", Usage(5, 1)), LAST)
    assert not world.cancel(item)
    assert host.claims.controls() == []
    assert not world.cancel(world.generation())


def test_cancel_of_one_that_waits_again_reports_what_was_generated(world: QueueWorld) -> None:
    dying, _ = world.host(), world.host()
    item = world.enqueued()
    dying.claim()
    dying.say(item, "ab", "c")
    dying.die()
    world.sweep.run()
    assert world.cancel(item)
    assert world.frames(item)[-1] == (4, Finished("cancelled", Usage(5, 3)))


def test_cancel_told_to_a_dead_host_is_not_forgotten(world: QueueWorld) -> None:
    dying, _ = world.host(), world.host()
    item, other = world.enqueued(), world.enqueued()
    dying.claim()
    dying.say(item, "ab")
    dying.die()
    assert world.cancel(item)
    world.sweep.run()
    assert world.frames(item)[-1] == (3, Finished("cancelled", Usage(5, 2)))
    assert world.waiting() == [other.id]
    assert not world.redis.exists(keys.item(item.id))
    assert world.redis.ttl(keys.stream(item.id)) > 0
