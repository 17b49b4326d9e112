"""However a host ends, its generations go on without gap or repetition."""

import os
from functools import partial

import pytest

from inference.engine.backend import BackendError
from inference.messages import Drain, Failed, Finished, Generation, Usage, encode
from inference.queue import keys
from inference.queue.blame import PROVEN_TOKENS
from inference.queue.claims import LAST, FencedError
from inference.replica.host import STUCK_EXIT_STATUS
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.queue.world import QueueWorld
from tests.inference.replica.running_host import RunningHost, check_whole, read_all
from tests.waiting import wait_until

_quiet_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def test_drain_finishes_the_work_and_leaves_nothing(world: QueueWorld) -> None:
    host = RunningHost(world, paced=True)
    with host:
        items = [world.enqueued(f"prompt {index}", max_tokens=60) for index in range(3)]
        host.advance(items[-1], 1)
        for _ in range(2):  # as the controller does at every look
            world.redis.rpush(keys.control(host.launch_id), encode(Drain()))
        wait_until(lambda: host.draining)
        waiting = world.generation()
        ready = keys.ready(world.version_key)
        wait_until(lambda: world.redis.zscore(ready, host.launch_id) is None)
        other = world.host()  # so that the queue takes it
        world.enqueue(waiting)
        host.pace.allow(float("inf"))
        assert host.join() is None
    for item, entries in zip(items, read_all(*items), strict=True):
        check_whole(item, entries)
    assert host.draining == 1
    assert world.waiting() == [waiting.id]
    assert not world.redis.exists(*world.keys_of_launch(host.launch_id))
    assert world.redis.zscore(keys.HOSTS, host.launch_id) is None
    assert host.launch_id not in world.sweep.run()
    assert other.claim() == [waiting.id]


def test_drain_of_an_idle_host_ends_it(world: QueueWorld) -> None:
    with RunningHost(world) as host:
        world.redis.rpush(keys.control(host.launch_id), encode(Drain()))
        assert host.join() is None


def test_a_host_shows_itself_while_it_frees_its_memory(world: QueueWorld) -> None:
    beats: list[float] = []

    def free() -> None:
        def beat() -> float:
            return float(world.redis.zscore(keys.HOSTS, host.launch_id) or 0)

        last = beat()
        beats.extend([last, wait_until(lambda: beat() if beat() > last else 0.0)])
        ready = keys.ready(world.version_key)
        assert world.redis.zscore(ready, host.launch_id) is None

    host = RunningHost(world, free=free)
    with host:
        world.redis.rpush(keys.control(host.launch_id), encode(Drain()))
        assert host.join() is None
    assert len(beats) == 2
    assert world.redis.zscore(keys.HOSTS, host.launch_id) is None


def test_a_stop_with_time_enough_finishes_the_work(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        item = world.enqueued(max_tokens=60)
        host.advance(item, 1)
        host.stop.set()
        host.pace.allow(float("inf"))
        assert host.join() is None
    check_whole(item, *read_all(item))
    assert not world.redis.exists(*world.keys_of_launch(host.launch_id))


@pytest.mark.parametrize("stops", [1, 3])
def test_a_stop_leaves_work_that_others_continue(world: QueueWorld, stops: int) -> None:
    items = [world.generation(f"prompt {index}", max_tokens=90) for index in range(3)]
    for turn in range(stops):
        with RunningHost(world, paced=True, stop_seconds=0.0) as host:
            if turn == 0:
                world.enqueue(*items)
            host.advance(items[-1], 2)
            host.stop.set()
            wait_until(partial(_has_abandoned, world, host))
        assert host.ending is None
        assert host.launch_id in world.sweep.run()
        assert world.waiting() == [item.id for item in items]
        # To be stopped is not to crash: however often, it makes no suspect.
        assert {world.field(item, "crashes") for item in items} == {b"0"}
    with RunningHost(world):
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)


@_quiet_thread
def test_an_engine_that_breaks_ends_the_host_and_others_continue(world: QueueWorld) -> None:
    items = [world.generation(f"prompt {index}", max_tokens=30) for index in range(3)]
    with RunningHost(world) as host:
        steps = 0

        def breaks() -> None:
            nonlocal steps
            steps += 1
            if steps == 12:
                wait_until(lambda: world.frames(items[0]))
                raise BackendError("out of order")

        host.backend.while_decoding = breaks
        world.enqueue(*items)
        assert isinstance(host.join(), BackendError)
    assert world.redis.zscore(keys.HOSTS, host.launch_id) == 0
    assert host.launch_id in world.sweep.run()
    assert {world.field(item, "crashes") for item in items} == {b"1"}
    with RunningHost(world):
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)


@_quiet_thread
def test_a_poison_fails_alone_after_two_hosts(world: QueueWorld) -> None:
    poison = world.generation("poison", max_tokens=40)
    innocents = [world.generation(f"prompt {index}", max_tokens=40) for index in range(3)]
    everyone = [innocents[0], poison, *innocents[1:]]
    deaths = 0
    while deaths == 0 or not _have_ended(world, everyone):
        host = RunningHost(world)

        def breaks(backend: FakeBackend = host.backend) -> None:
            prompts = [bytes(span.token_ids) for span in backend.decoded_batches[-1]]
            if any(prompt.startswith(b"poison") for prompt in prompts):
                raise BackendError("poisoned")

        host.backend.while_decoding = breaks
        with host:
            if deaths == 0:
                world.enqueue(*everyone)
            wait_until(partial(_is_over, world, host, everyone))
        deaths += host.ending is not None
        world.sweep.run()
    assert deaths == 2
    last = world.frames(poison)[-1][1]
    assert isinstance(last, Failed)
    assert last.code == "poison_request"
    for item, entries in zip(innocents, read_all(*innocents), strict=True):
        check_whole(item, entries)


def _has_abandoned(world: QueueWorld, host: RunningHost) -> bool:
    return world.redis.zscore(keys.HOSTS, host.launch_id) == 0


def _is_over(world: QueueWorld, host: RunningHost, items: list[Generation]) -> bool:
    return host.ending is not None or _have_ended(world, items)


def _have_ended(world: QueueWorld, items: list[Generation]) -> bool:
    return not any(world.redis.exists(keys.item(item.id)) for item in items)


def test_suspects_are_run_one_after_the_other_until_proven(world: QueueWorld) -> None:
    dying = world.host()
    items = [world.generation(f"prompt {index}", max_tokens=20) for index in range(3)]
    world.enqueue(*items)
    dying.claim()
    dying.die()
    world.sweep.run()
    with RunningHost(world, paced=True) as host:
        host.advance(items[0], 2)
        assert world.waiting() == [items[1].id, items[2].id]
        host.pace.allow(float("inf"))
        for item, entries in zip(items, read_all(*items), strict=True):
            check_whole(item, entries)


@pytest.mark.parametrize("first", ["suspect", "fresh"])
def test_a_suspect_and_one_not_proven_are_kept_apart(world: QueueWorld, first: str) -> None:
    dying = world.host()
    suspect, fresh = world.generation(max_tokens=60), world.generation(max_tokens=60)
    world.enqueue(suspect)
    dying.claim()
    dying.die()
    if first == "suspect":
        world.sweep.run()
    with RunningHost(world, paced=True) as host:
        running, waiting = suspect, fresh
        if first == "fresh":
            running, waiting = fresh, suspect
            world.enqueue(fresh)
        host.advance(running, 1)
        if first == "fresh":
            world.sweep.run()
        else:
            world.enqueue(fresh)
        host.advance(running, 3)
        assert world.waiting() == [waiting.id]
        host.advance(running, PROVEN_TOKENS)
        wait_until(lambda: world.waiting() == [])
        host.pace.allow(float("inf"))
        for item, entries in zip((suspect, fresh), read_all(suspect, fresh), strict=True):
            check_whole(item, entries)


def test_a_fenced_host_ends_and_writes_nothing(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        item = world.enqueued(max_tokens=60)
        host.advance(item, 1)
        world.redis.zadd(keys.HOSTS, {host.launch_id: 0})
        wait_until(lambda: host.launch_id in world.sweep.run())
        assert isinstance(host.join(), FencedError)
        emitted = len(world.frames(item))
        host.pace.allow(float("inf"))
    assert world.redis.zscore(keys.HOSTS, host.launch_id) is None
    again = world.host().take()
    assert (again.id, again.emitted_frames) == (item.id, emitted)


def test_a_host_whose_model_call_never_returns_ends_its_process(
    world: QueueWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    with RunningHost(world, paced=True, step_timeout_seconds=0.05) as host:
        item = world.enqueued()
        ending = host.join()
    assert isinstance(ending, SystemExit)
    assert ending.code == STUCK_EXIT_STATUS
    world.sweep.run()
    assert world.waiting() == [item.id]


def test_what_another_host_ends_stays_ended(world: QueueWorld) -> None:
    with RunningHost(world, paced=True) as host:
        item = world.enqueued(max_tokens=60)
        host.advance(item, 1)
        world.redis.zadd(keys.HOSTS, {host.launch_id: 0})
        world.sweep.run()
        heir = world.host()
        again = heir.take()
        ended = Finished("stop", Usage(5, 9))
        heir.publish(again, again.emitted_frames + 1, ended, LAST)
        host.pace.allow(float("inf"))
        assert isinstance(host.join(), FencedError)
    assert world.frames(item)[-1][1] == ended
