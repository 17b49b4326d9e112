"""The controller reads queues and hosts, and answers waiting requests."""

import math
from collections.abc import Iterator

import pytest

from inference.errors import ModelLoadingError
from inference.messages import Delta, Failed, Started, Usage
from inference.queue import keys
from inference.queue.demand import DemandReader, Refused
from models_registry.fleet.views import Demand, HostFacts
from tests.inference.queue.world import STREAM_TTL_SECONDS, QueueWorld, ScriptedHost

NO_ROOM = Failed("model_unavailable", "No room.", 12.5, Usage(0, 0))
TOO_LATE = Failed("queue_timeout", "Too late.", usage=Usage(0, 0))


@pytest.fixture
def reader(world: QueueWorld) -> Iterator[DemandReader]:
    """The controller's view; what it announces is removed."""
    yield DemandReader(world.redis, STREAM_TTL_SECONDS)
    world.redis.delete(keys.LOADABLE, keys.LOADING)
    world.redis.hdel(keys.USED, world.version_key)
    world.redis.hdel(keys.KEEP_ALIVE, world.version_key)


def demand_of(world: QueueWorld, reader: DemandReader) -> Demand:
    """The demand for the world's version."""
    return reader.read([world.version_key], {})[0][world.version_key]


def facts_of(host: ScriptedHost, reader: DemandReader) -> HostFacts:
    """The facts of a living host, as read."""
    return reader.read([], {host.launch_id: HostFacts(is_alive=True)})[1][host.launch_id]


def backdate(world: QueueWorld, item_id: str, seconds: float) -> None:
    """Let an item have come earlier."""
    enqueued = float(world.redis.hget(keys.item(item_id), "enqueued") or 0)
    world.redis.hset(keys.item(item_id), "enqueued", enqueued - seconds)
    world.redis.zincrby(keys.queue(world.version_key), -seconds, item_id)


def test_what_is_loadable_can_be_queued_without_a_host(
    world: QueueWorld, reader: DemandReader
) -> None:
    reader.announce(["another@v"], {})
    with pytest.raises(ModelLoadingError):
        world.enqueued()
    reader.announce([world.version_key], {})
    item = world.enqueued()
    assert world.waiting() == [item.id]
    assert 0 < world.redis.ttl(keys.LOADABLE) <= 10


def test_demand_of_a_version_nobody_asked_for(world: QueueWorld, reader: DemandReader) -> None:
    assert demand_of(world, reader) == Demand(idle_seconds=0.0)
    (found,) = reader.read([world.version_key], {}, [world.version_key])[0].values()
    assert found == Demand(idle_seconds=math.inf)


def test_a_version_loaded_before_anybody_asks_is_unused_until_somebody_does(
    world: QueueWorld, reader: DemandReader
) -> None:
    reader.note_unused(world.version_key)
    host = world.host()
    unused = reader.read([world.version_key], {host.launch_id: HostFacts()})[0][world.version_key]
    assert unused.idle_seconds > 1e9
    world.enqueued()
    reader.note_unused(world.version_key)
    assert demand_of(world, reader).idle_seconds < 5


def test_demand_knows_the_oldest_and_the_most_urgent(
    world: QueueWorld, reader: DemandReader
) -> None:
    world.host()
    low = world.generation(priority=1)
    world.enqueue(low)
    high = world.generation(priority=3)
    world.enqueue(high)
    backdate(world, low.id, 40)
    found = demand_of(world, reader)
    assert (found.queued, found.priority) == (2, 3)
    assert found.oldest_wait_seconds == pytest.approx(40, abs=1)
    # The head start of high priority: two levels of ageing.
    assert found.urgency_seconds == pytest.approx(2 * world.settings.ageing_seconds, abs=1)
    assert found.idle_seconds == pytest.approx(0, abs=1)


def test_a_version_at_work_is_in_use(world: QueueWorld, reader: DemandReader) -> None:
    host = world.host()
    world.enqueued()
    host.claim()
    world.redis.hset(keys.USED, world.version_key, 1.0)
    _, loads = reader.read([world.version_key], {host.launch_id: HostFacts(is_alive=True)})
    assert loads[host.launch_id].busy == 1
    assert demand_of(world, reader).idle_seconds == pytest.approx(0, abs=1)


def test_a_host_says_what_it_holds_beside_what_it_began_with(
    world: QueueWorld, reader: DemandReader
) -> None:
    host = world.host()
    assert facts_of(host, reader).private_bytes is None
    world.redis.hset(keys.host(host.launch_id), "private_bytes", 5_000_000_000)
    world.redis.hset(keys.host(host.launch_id), "private_before", 1_000_000_000)
    assert facts_of(host, reader).private_bytes == 4_000_000_000


def test_keep_alive_is_remembered_until_it_is_forgotten(
    world: QueueWorld, reader: DemandReader
) -> None:
    world.redis.hset(keys.KEEP_ALIVE, world.version_key, 90)
    assert demand_of(world, reader).keep_alive_seconds == 90
    reader.forget_keep_alive(world.version_key)
    assert demand_of(world, reader).keep_alive_seconds is None


def test_refuse_ends_all_that_waits_with_the_reason(
    world: QueueWorld, reader: DemandReader
) -> None:
    host = world.host()
    begun, fresh = world.enqueued(), world.enqueued()
    assert host.claim(1) == [begun.id]
    host.say(begun, "par")
    host.die()
    world.sweep.run()
    assert reader.refuse(world.version_key, NO_ROOM, Refused.ALL) == 2
    assert world.waiting() == []
    assert world.frames(fresh) == [(1, NO_ROOM)]
    numbers = [number for number, _ in world.frames(begun)]
    assert numbers == [1, 2, 3]
    last = world.frames(begun)[-1][1]
    assert isinstance(last, Failed)
    assert last.usage == Usage(5, 3)
    assert not world.redis.exists(keys.item(fresh.id))


def test_refuse_of_the_fresh_leaves_those_that_had_begun(
    world: QueueWorld, reader: DemandReader
) -> None:
    host = world.host()
    begun, fresh = world.enqueued(), world.enqueued()
    host.claim(1)
    host.say(begun, "par")
    host.die()
    world.sweep.run()
    assert reader.refuse(world.version_key, NO_ROOM, Refused.FRESH) == 1
    assert world.waiting() == [begun.id]
    assert world.frames(fresh) == [(1, NO_ROOM)]


def test_refuse_of_the_late_leaves_the_others_and_those_that_had_begun(
    world: QueueWorld, reader: DemandReader
) -> None:
    host = world.host()
    begun = world.enqueued()
    host.claim(1)
    host.say(begun, "par")
    host.die()
    world.sweep.run()
    world.host()
    late, fresh = world.enqueued(), world.enqueued()
    for item in (begun, late):
        world.redis.hset(keys.item(item.id), "deadline", 1.0)
    assert reader.refuse(world.version_key, TOO_LATE, Refused.LATE) == 1
    assert sorted(world.waiting()) == sorted([begun.id, fresh.id])
    assert world.frames(late) == [(1, TOO_LATE)]
    assert [type(frame) for _, frame in world.frames(begun)] == [Started, Delta]


def test_what_a_host_shows_of_itself(world: QueueWorld, reader: DemandReader) -> None:
    host = world.host(ready=False)
    assert facts_of(host, reader) == HostFacts(is_alive=True)
    facts = {"resident_bytes": 5, "device": "GPU9", "notice": "Slow."}
    host.claims.heartbeat(ready=True, ttl_seconds=60, facts=facts)
    assert facts_of(host, reader) == HostFacts(
        is_alive=True, is_serving=True, resident_bytes=5, device="GPU9", notice="Slow."
    )


def test_a_version_with_a_host_was_used_at_the_latest_when_it_was_seen(
    world: QueueWorld, reader: DemandReader
) -> None:
    host = world.host()
    reader.read([world.version_key], {host.launch_id: HostFacts(is_alive=True)})
    assert demand_of(world, reader).idle_seconds == pytest.approx(0, abs=1)
    world.redis.hset(keys.USED, world.version_key, 1.0)
    reader.read([world.version_key], {host.launch_id: HostFacts(is_alive=True)})
    assert demand_of(world, reader).idle_seconds > 1000
