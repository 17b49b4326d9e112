"""Generations that several requests read, and their answers in the cache of exact requests."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from caching.answers import cached_answers, forget
from inference.messages import Cancel, Delta, Finished, Generation, Started, Usage
from inference.queue import keys
from inference.queue.claims import KEPT, LAST
from inference.queue.queue import Place
from tests.inference.caches import empty_caches
from tests.inference.queue.world import QueueWorld, ScriptedHost

ENDED = Finished("stop", Usage(5, 2))


@pytest.fixture(autouse=True)
def _empty_caches(world: QueueWorld) -> Iterator[None]:
    empty_caches(world.redis)
    yield
    empty_caches(world.redis)


def ask(world: QueueWorld, item: Generation, key: str = "rain", **fields: Any) -> Place:
    """Queue an item that may be answered by the cache, or by the generation of another item."""
    plans = [world.plan(item, key, **fields)]
    (place,) = world.with_queue(lambda queue: queue.enqueue([item], plans=plans))
    return place


def shared_by(world: QueueWorld, count: int) -> tuple[list[Generation], str]:
    """Some items that read one generation, and its id."""
    items = [world.generation() for _ in range(count)]
    places = [ask(world, item) for item in items]
    assert [place.tier for place in places] == ["", *["flight"] * (count - 1)]
    assert len({place.stream_id for place in places}) == 1
    assert world.waiting() == [places[0].stream_id]
    return items, places[0].stream_id


def answer(world: QueueWorld, host: ScriptedHost, key: str, text: str = "ab") -> None:
    """Generate an answer that is kept in the cache."""
    assert ask(world, world.generation(), key).tier == ""
    item = host.take()
    host.say(item, text)
    host.publish(item, 3, ENDED, KEPT)


def owners(world: QueueWorld, stream_id: str) -> list[bytes | None]:
    """The reader whose record has the computed tokens, by frame of a stream."""
    entries: Any = world.redis.xrange(keys.stream(stream_id))
    return [fields.get(b"o") for _, fields in entries]


def test_answer_of_a_generation_whose_host_died_is_read_whole_and_not_kept(
    world: QueueWorld,
) -> None:
    dying, next_host = world.host(), world.host()
    _, shared = shared_by(world, 2)
    dying.say(dying.take(), "ab")
    dying.die()
    world.sweep.run()
    again = next_host.take()
    assert (again.id, again.crashes) == (shared, 1)
    # Requests still join it.
    assert ask(world, world.generation()) == Place("flight", shared)
    next_host.publish(again, 3, Delta("c", [ord("c")]))
    next_host.publish(again, 4, ENDED, KEPT)
    frames = world.frames(again)
    assert [number for number, _ in frames] == [1, 2, 3, 4]
    assert "".join(one.text for _, one in frames if isinstance(one, Delta)) == "abc"
    assert list(cached_answers(world.redis)) == []
    assert ask(world, world.generation()).tier == ""


def test_answer_of_a_generation_whose_host_lives_is_kept(world: QueueWorld) -> None:
    answer(world, world.host(), "rain")
    hit = ask(world, world.generation())
    assert (hit.tier, hit.key, [number for number, _ in hit.entries]) == (
        "exact",
        "rain",
        [1, 2, 3],
    )


@pytest.mark.parametrize("leaver", [None, 0, 1])
def test_last_frame_names_the_first_of_the_readers_that_stayed(
    world: QueueWorld, leaver: int | None
) -> None:
    host = world.host()
    readers, shared = shared_by(world, 2)
    item = host.take()
    host.say(item, "ab")
    if leaver is not None:
        assert world.cancel(readers[leaver])
        ((number, last),) = world.frames(readers[leaver])
        assert (number, last) == (1, Finished("cancelled", Usage(0, 0)))
    assert host.claims.controls() == []
    host.publish(item, 3, ENDED, LAST)
    first = readers[1 if leaver == 0 else 0]
    assert owners(world, shared) == [None, None, first.id.encode()]
    assert not world.redis.exists("brigade:readers:" + shared, keys.flight("rain"))


def test_reader_whose_web_process_is_silent_keeps_no_generation_alive(world: QueueWorld) -> None:
    host = world.host()
    (leader, silent), shared = shared_by(world, 2)
    item = host.take()
    host.say(item, "ab")
    world.redis.zadd("brigade:readers:" + shared, {silent.id: 1})
    assert world.cancel(leader)
    assert host.claims.controls() == [Cancel(shared)]
    assert world.frames(leader) == []
    # Nobody joins a generation that is about to end.
    assert ask(world, world.generation()).tier == ""


def test_generation_goes_on_when_the_silent_reader_leaves(world: QueueWorld) -> None:
    host = world.host()
    (_, silent), shared = shared_by(world, 2)
    host.take()
    world.redis.zadd("brigade:readers:" + shared, {silent.id: 1})
    assert world.cancel(silent)
    assert host.claims.controls() == []


def test_enqueue_of_a_retyped_question_repeated_names_the_same_entry(world: QueueWorld) -> None:
    host = world.host()
    assert ask(world, world.generation(), "snow", retyped="canon").tier == ""
    item = host.take()
    host.say(item, "ab")
    host.publish(item, 3, ENDED, KEPT)
    other = world.generation()
    fields: dict[str, Any] = {"retyped": "canon", "copy_seconds": 60}
    one, two = [replace(ask(world, other, "snow2", **fields), age_seconds=0) for _ in range(2)]
    assert (one.tier, one.key) == ("retyped", "snow")
    assert one == two


def test_enqueue_repeated_after_a_lost_reply_gives_the_same_places(world: QueueWorld) -> None:
    host = world.host()
    answer(world, host, "snow")
    copied, whole = world.generation(), world.generation()
    hits = [(copied, "snow", {"copy_seconds": 60}), (whole, "snow", {})]
    readers: list[tuple[Generation, str, dict[str, Any]]] = [
        (world.generation(), "rain", {}) for _ in range(2)
    ]
    requests = [*readers, *hits]

    def places() -> list[Place]:
        found = [ask(world, item, key, **fields) for item, key, fields in requests]
        return [replace(place, age_seconds=0) for place in found]

    first = places()
    shared = first[0].stream_id
    assert [place.tier for place in first] == ["", "flight", "exact", "exact"]
    assert [len(place.entries) for place in first] == [0, 0, 3, 3]
    assert places() == first
    assert world.waiting() == [shared]
    item = host.take()
    host.say(item, "ab")
    assert places() == first
    host.publish(item, 3, ENDED, KEPT)
    # The readers' answer is in the stream by now, and in the cache.
    assert places() == first
    assert world.waiting() == []
    assert host.claim() == []
    assert len(world.frames(copied)) == 3
    assert world.frames(whole) == []
    forget(world.redis, lambda *_: True)
    # Its copy can still be read.
    requests, first = [(copied, "snow", {"copy_seconds": 60})], [first[2]]
    assert places() == first
    assert world.waiting() == []


def test_bytes_of_the_cache_are_those_of_its_answers(world: QueueWorld) -> None:
    host = world.host()

    def check() -> list[str]:
        """The keys of the answers that are held."""
        facts: Any = world.redis.hgetall("brigade:cached")
        held = sum(json.loads(text)["bytes"] for text in facts.values())
        assert int(world.redis.get("brigade:cache_bytes") or 0) == held
        used: Any = world.redis.zrange("brigade:cache_use", 0, -1)
        assert sorted(used) == sorted(facts)
        names = [key.decode() for key in used]
        assert all(world.redis.exists(keys.cached(name)) for name in names)
        return names

    for number in range(4):
        answer(world, host, f"key {number}", "a" * 100 * number)
    assert check() == ["key 0", "key 1", "key 2", "key 3"]
    # A hit is a use: "key 1" goes first.
    assert ask(world, world.generation(), "key 0").tier == "exact"
    held = int(world.redis.get("brigade:cache_bytes") or 0)
    assert ask(world, world.generation(), "key 4", budget=held).tier == ""
    item = host.take()
    host.say(item, "b")
    host.publish(item, 3, ENDED, KEPT)
    assert check() == ["key 2", "key 3", "key 0", "key 4"]
    # A new answer under a known key takes the place of the old one.
    assert ask(world, world.generation(), "key 2", read=False).tier == ""
    item = host.take()
    host.publish(item, 1, Started(5))
    host.publish(item, 2, ENDED, KEPT)
    assert check() == ["key 3", "key 0", "key 4", "key 2"]
    assert forget(world.redis, lambda key, _: key == "key 0") == 1
    assert check() == ["key 3", "key 4", "key 2"]
    assert forget(world.redis, lambda *_: True) == 3
    assert check() == []
