"""The order of claims, deadlines, and suspects that run alone."""

import pytest

from inference.messages import Embedding, Generation
from inference.queue import keys
from inference.queue.claims import EXPIRED, FencedError
from tests.inference.queue.world import QueueWorld

PASSED = {"queue_timeout_seconds": -1.0}


def test_claim_gives_the_item_and_how_long_it_waited(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued("prompt", max_tokens=7, stop=("x",))
    (claimed, waited_seconds), *rest = host.claims.claim(5, may_take_suspect=True)[0]
    assert claimed == item
    assert rest == []
    assert 0 <= waited_seconds < 5
    assert world.waiting() == []
    assert world.field(item, "owner") == host.launch_id.encode()
    assert world.redis.hgetall(keys.claims(host.launch_id)) == {item.id.encode(): b"0"}


def test_claim_carries_embeddings(world: QueueWorld) -> None:
    host = world.host()
    item = Embedding(world.generation().id, world.version_key, [[1, 2], [3]])
    world.with_queue(lambda queue: queue.enqueue([item]))
    assert host.claims.claim(1, may_take_suspect=True)[0][0][0] == item


def test_claim_is_first_come_first_served_within_a_level(world: QueueWorld) -> None:
    host = world.host()
    items = [world.enqueued().id for _ in range(6)]
    assert host.claim(4) + host.claim(4) == items


@pytest.mark.parametrize(
    ("strategy", "ageing_seconds", "expected"),
    [
        ("priority", 30.0, [3, 2, 1]),
        ("fifo", 30.0, [1, 2, 3]),
        # Each has waited longer than a level is worth by the time the next comes.
        ("priority", 1e-6, [1, 2, 3]),
    ],
)
def test_claim_order_by_priority_and_age(
    world: QueueWorld, strategy: str, ageing_seconds: float, expected: list[int]
) -> None:
    host = world.host()
    items = {priority: world.generation(priority=priority) for priority in (1, 2, 3)}
    for item in items.values():
        world.enqueue(item, queue_strategy=strategy, ageing_seconds=ageing_seconds)
    assert host.claim() == [items[priority].id for priority in expected]


def test_claim_above_a_priority_passes_by_what_is_not(world: QueueWorld) -> None:
    host = world.host()
    items = [world.enqueued(priority=priority) for priority in (1, 3, 2, 3)]
    assert host.claim(above_priority=3) == []
    assert host.claim(1, above_priority=2) == [items[1].id]
    assert host.claim(above_priority=1) == [items[3].id, items[2].id]
    assert world.waiting() == [items[0].id]


def test_two_hosts_never_claim_the_same(world: QueueWorld) -> None:
    first, second = world.host(), world.host()
    items = [world.enqueued().id for _ in range(6)]
    claimed = [host.claim(1) for _ in range(3) for host in (first, second)]
    assert claimed == [[item] for item in items]


def test_hosts_share_a_burst(world: QueueWorld) -> None:
    first, second, idle = world.host(), world.host(), world.host()
    items = [world.enqueued().id for _ in range(7)]
    assert first.claim() == items[:3]
    assert second.claim() == items[3:6]
    assert idle.claim() == items[6:]


def test_a_new_item_is_left_to_the_host_with_less_to_do(world: QueueWorld) -> None:
    busy, idle = world.host(), world.host(ready=False)
    for _ in range(4):
        world.enqueued()
    assert len(busy.claim()) == 4  # as long as no other host serves
    idle.beat()
    item = world.enqueued()
    assert busy.claim() == []
    assert idle.claim() == [item.id]


def test_what_the_host_with_less_to_do_leaves_is_for_any(world: QueueWorld) -> None:
    busy, full = world.host(), world.host(ready=False)
    world.enqueued()
    assert len(busy.claim()) == 1
    full.beat()
    item = world.enqueued()
    world.age(item)
    assert busy.claim() == [item.id]


def test_claim_reports_an_item_whose_deadline_has_passed_and_does_not_run_it(
    world: QueueWorld,
) -> None:
    host = world.host()
    late = world.generation()
    world.enqueue(late, **PASSED)
    fine = world.enqueued()
    items, expired = host.claims.claim(1, may_take_suspect=False)
    assert [item.id for item, _ in items] == [fine.id]
    assert expired == [(late.id, EXPIRED)]
    assert host.claims.claim(5, may_take_suspect=True) == ([], [])


def test_an_expired_item_is_not_lost_with_its_host(world: QueueWorld) -> None:
    first, second = world.host(), world.host()
    late = world.generation()
    world.enqueue(late, **PASSED)
    assert first.claims.claim(1, may_take_suspect=True) == ([], [(late.id, EXPIRED)])
    first.die()
    world.sweep.run()
    assert second.claims.claim(1, may_take_suspect=True) == ([], [(late.id, EXPIRED)])


def test_claim_forgets_an_item_whose_content_is_gone(world: QueueWorld) -> None:
    host = world.host()
    lost, kept = world.enqueued(), world.enqueued()
    world.redis.delete(keys.item(lost.id))
    assert host.claim() == [kept.id]
    assert world.waiting() == []


def _with_suspects(world: QueueWorld, count: int) -> list[str]:
    """Items whose host died, before anything else in the queue."""
    dying = world.host()
    items = [world.enqueued() for _ in range(count)]
    world.age(*items)
    claimed = dying.claim()
    assert claimed == [item.id for item in items]
    dying.die()
    assert dying.launch_id in world.sweep.run()
    return claimed


def test_suspects_are_claimed_one_at_a_time(world: QueueWorld) -> None:
    host = world.host()
    suspects = _with_suspects(world, 2)
    fresh = [world.enqueued().id for _ in range(2)]
    assert host.claim() == [suspects[0]]
    assert host.claim() == [suspects[1]]
    assert host.claim() == fresh


def test_a_suspect_that_may_not_be_taken_keeps_its_place(world: QueueWorld) -> None:
    host = world.host()
    (suspect,) = _with_suspects(world, 1)
    fresh = world.enqueued().id
    assert host.claim(suspects=False) == []
    assert world.waiting() == [suspect, fresh]


def test_items_before_a_suspect_are_claimed_without_it(world: QueueWorld) -> None:
    host = world.host()
    (suspect,) = _with_suspects(world, 1)
    urgent = world.enqueued(priority=3).id
    assert host.claim() == [urgent]
    assert host.claim() == [suspect]


def test_a_fenced_host_can_do_nothing(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    claimed = host.take()
    waiting = world.enqueued()
    host.die()
    world.sweep.run()
    with pytest.raises(FencedError):
        host.beat()
    with pytest.raises(FencedError):
        host.claim()
    with pytest.raises(FencedError):
        host.say(claimed)
    with pytest.raises(FencedError):
        host.claims.reassert({item.id: True})
    assert world.waiting() == [item.id, waiting.id]
    assert world.frames(item) == []
    assert world.redis.zscore(keys.HOSTS, host.launch_id) is None
    assert not world.redis.exists(keys.claims(host.launch_id))


def test_claims_whose_reply_was_lost_go_back_to_their_place(world: QueueWorld) -> None:
    host = world.host()
    known, lost, behind = (world.enqueued() for _ in range(3))
    assert host.claim(2) == [known.id, lost.id]
    assert host.claims.give_back_unknown({known.id}, 60) == [lost.id]
    assert world.waiting() == [lost.id, behind.id]
    assert host.claims.give_back_unknown({known.id}, 60) == []
    again = host.take()
    assert again == lost


def test_an_unknown_claim_without_content_is_dropped(world: QueueWorld) -> None:
    host = world.host()
    item = world.enqueued()
    host.claim()
    world.redis.delete(keys.item(item.id))
    host.claims.give_back_unknown(set(), 60)
    assert not world.redis.exists(keys.claims(host.launch_id))
    assert world.waiting() == []


def test_claim_adds_up_the_waits_of_an_item_and_not_the_time_on_a_host(world: QueueWorld) -> None:
    dying, next_host = world.host(), world.host()
    item = world.enqueued()
    backdate(world, item, enqueued=100.0)
    ((_, waited_first),), _ = dying.claims.claim(1, may_take_suspect=True)
    assert 100 <= waited_first < 105
    dying.say(item, "a")
    backdate(world, item, enqueued=1000.0)  # as if the host had run for that long
    dying.die()
    world.sweep.run()
    backdate(world, item, waits_since=7.0)
    ((_, waited),), _ = next_host.claims.claim(1, may_take_suspect=True)
    assert waited_first + 7 <= waited < waited_first + 12


def backdate(world: QueueWorld, item: Generation, **seconds: float) -> None:
    """Move moments of an item into the past."""
    for name, by in seconds.items():
        world.redis.hincrbyfloat(keys.item(item.id), name, -by)
