"""How long a node has been silent, as far as somebody has watched."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from inference.cluster.node import publish_node, withdraw_node
from inference.controller.watch import Watch
from tests.inference.queue.world import QueueWorld

LEASE_SECONDS = 5.0


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now=100.0)


@pytest.fixture
def watch(world: QueueWorld, clock: SimpleNamespace) -> Iterator[Watch]:
    yield Watch(world.redis, LEASE_SECONDS, lambda: clock.now)
    withdraw_node(world.redis, "gone")


def silence(watch: Watch, clock: SimpleNamespace, after_seconds: float) -> float | None:
    """Of the node, after a while; None where it shows itself."""
    clock.now += after_seconds
    return watch.look(["gone"]).node_silence_seconds.get("gone")


def test_silence_grows_though_looks_take_longer_than_a_lease(
    world: QueueWorld, watch: Watch, clock: SimpleNamespace
) -> None:
    publish_node(world.redis, "gone", [])
    assert silence(watch, clock, 0.5) is None
    withdraw_node(world.redis, "gone")
    found = [silence(watch, clock, LEASE_SECONDS + 1) for _ in range(6)]
    assert found == [LEASE_SECONDS * number for number in range(1, 7)]
    publish_node(world.redis, "gone", [])
    assert silence(watch, clock, 0.5) is None
    withdraw_node(world.redis, "gone")
    assert silence(watch, clock, 0.5) == 0.5


def test_what_nobody_watched_is_no_silence(watch: Watch, clock: SimpleNamespace) -> None:
    assert silence(watch, clock, 3600.0) == 0.0
    assert silence(watch, clock, 1.0) == 1.0
    assert silence(watch, clock, 3600.0) == 1.0 + LEASE_SECONDS
