"""The silence of nodes, as far as a controller has watched."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from inference.cluster.node import publish_node, withdraw_node
from inference.controller.observe import HostMonitor
from tests.inference.queue.world import QueueWorld

LEASE_SECONDS = 5.0


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now=100.0)


@pytest.fixture
def monitor(world: QueueWorld, clock: SimpleNamespace) -> Iterator[HostMonitor]:
    yield HostMonitor(world.redis, LEASE_SECONDS, lambda: clock.now)
    withdraw_node(world.redis, "gone")


def silence(monitor: HostMonitor, clock: SimpleNamespace, after_seconds: float) -> float | None:
    """The silence of the node after a while; None where it shows itself."""
    clock.now += after_seconds
    return monitor.read(["gone"]).node_silence_seconds.get("gone")


def test_silence_grows_though_looks_take_longer_than_a_lease(
    world: QueueWorld, monitor: HostMonitor, clock: SimpleNamespace
) -> None:
    publish_node(world.redis, "gone", [])
    assert silence(monitor, clock, 0.5) is None
    withdraw_node(world.redis, "gone")
    found = [silence(monitor, clock, LEASE_SECONDS + 1) for _ in range(6)]
    assert found == [LEASE_SECONDS * number for number in range(1, 7)]
    publish_node(world.redis, "gone", [])
    assert silence(monitor, clock, 0.5) is None
    withdraw_node(world.redis, "gone")
    assert silence(monitor, clock, 0.5) == 0.5


def test_what_nobody_watched_is_no_silence(monitor: HostMonitor, clock: SimpleNamespace) -> None:
    assert silence(monitor, clock, 3600.0) == 0.0
    assert silence(monitor, clock, 1.0) == 1.0
    assert silence(monitor, clock, 3600.0) == 1.0 + LEASE_SECONDS
