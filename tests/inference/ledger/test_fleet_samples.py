"""Samples of the fleet are taken once per interval."""

from datetime import UTC, datetime, timedelta

import pytest
import redis

from inference.ledger.fleet_samples import EVERY_SECONDS, FleetSamples
from metrics.ledger import store
from metrics.models import FleetSample
from metrics.prometheus.counters import field_of
from metrics.prometheus.names import LOADS
from models_registry.models import ModelVersion, Node, Replica

NOW = datetime(2026, 5, 10, 12, 1, tzinfo=UTC)
STEP = timedelta(seconds=EVERY_SECONDS)


@pytest.fixture
def node(database: None, redis_client: "redis.Redis") -> Node:
    """A node, and a Redis without counters of other tests."""
    redis_client.delete(store.COUNTERS)
    return Node.objects.create(name="gpu1")


def rows() -> list[tuple[datetime, str, str, int, int]]:
    """All samples."""
    fields = ("taken_at", "node", "version_key", "resident_bytes", "loads")
    return list(FleetSample.objects.order_by("taken_at", "version_key").values_list(*fields))


def test_sample_has_the_memory_of_a_version_on_a_node(
    node: Node, version: ModelVersion, redis_client: "redis.Redis"
) -> None:
    for size in (100, 20):
        Replica.objects.create(version=version, node=node, state="ready", resident_bytes=size)
    Replica.objects.create(version=version, node=node, state="loading", resident_bytes=5)
    FleetSamples(redis_client).take(NOW)
    assert rows() == [(NOW - timedelta(minutes=1), "gpu1", version.key, 120, 0)]


def test_interval_has_one_sample_whoever_takes_it(
    node: Node, version: ModelVersion, redis_client: "redis.Redis"
) -> None:
    Replica.objects.create(version=version, node=node, state="ready", resident_bytes=7)
    first, second = FleetSamples(redis_client), FleetSamples(redis_client)
    for samples in (first, second, first):
        samples.take(NOW)
    assert len(rows()) == 1
    second.take(NOW + STEP)
    assert len(rows()) == 2


@pytest.mark.parametrize("before", [{}, {"it": 4}])
def test_loads_are_those_since_the_sample_before(
    node: Node, version: ModelVersion, redis_client: "redis.Redis", before: dict[str, int]
) -> None:
    name = field_of(LOADS, version.key)
    for count in before.values():
        redis_client.hincrby(store.COUNTERS, name, count)
    samples = FleetSamples(redis_client)
    samples.take(NOW)
    assert rows() == []
    redis_client.hincrby(store.COUNTERS, name, 3)
    samples.take(NOW + STEP)
    # It has left memory again.
    assert [row[1:] for row in rows()] == [("", version.key, 0, 3)]
