"""Samples of the fleet are taken once per interval."""

from datetime import UTC, datetime, timedelta

import pytest

from inference.ledger.fleet_samples import EVERY_SECONDS, FleetSamples, count_load
from metrics.models import FleetSample
from models_registry.models import ModelVersion, Node, Replica

NOW = datetime(2026, 5, 10, 12, 1, tzinfo=UTC)
STEP = timedelta(seconds=EVERY_SECONDS)


@pytest.fixture
def node(database: None) -> Node:
    """A node."""
    return Node.objects.create(name="gpu1")


def rows() -> list[tuple[datetime, str, str, int, int]]:
    """All samples."""
    fields = ("taken_at", "node", "version_key", "resident_bytes", "loads")
    return list(FleetSample.objects.order_by("taken_at", "version_key").values_list(*fields))


def test_sample_has_the_memory_of_a_version_on_a_node(node: Node, version: ModelVersion) -> None:
    for size in (100, 20):
        Replica.objects.create(version=version, node=node, state="ready", resident_bytes=size)
    Replica.objects.create(version=version, node=node, state="loading", resident_bytes=5)
    FleetSamples().take(NOW)
    assert rows() == [(NOW - timedelta(minutes=1), "gpu1", version.key, 120, 0)]


def test_interval_has_one_sample_whoever_takes_it(node: Node, version: ModelVersion) -> None:
    Replica.objects.create(version=version, node=node, state="ready", resident_bytes=7)
    first, second = FleetSamples(), FleetSamples()
    for samples in (first, second, first):
        samples.take(NOW)
    assert len(rows()) == 1
    second.take(NOW + STEP)
    assert len(rows()) == 2


def test_loads_count_in_the_interval_in_which_they_begin(node: Node, version: ModelVersion) -> None:
    replica = Replica.objects.create(version=version, node=node, state="starting")
    samples = FleetSamples()
    for moment in (NOW, NOW, NOW + STEP):
        count_load(replica, moment)
        samples.take(moment)
    Replica.objects.update(state="ready", resident_bytes=5)
    FleetSamples().take(NOW + STEP)
    first = NOW - timedelta(minutes=1)
    assert rows() == [
        (first, "gpu1", version.key, 0, 2),
        (first + STEP, "gpu1", version.key, 5, 1),
    ]
