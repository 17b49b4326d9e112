"""A node knows its devices, publishes its presence and learns which of its hosts are fenced."""

import sys
import uuid
from collections.abc import Iterator

import pytest
import redis

from inference.cluster import node as node_module
from inference.cluster.node import (
    PRESENCE_SECONDS,
    present_nodes,
    probe_node,
    publish_node,
    withdraw_node,
)
from inference.engine.llama.probe import cpu_features, device_name
from inference.queue import keys
from tests.inference.queue.world import QueueWorld


@pytest.fixture
def node(world: QueueWorld) -> Iterator[str]:
    """The name of a node."""
    name = f"n-{uuid.uuid4().hex}"
    yield name
    world.redis.delete(keys.node(name))


def test_a_node_is_present_with_the_launches_on_it(world: QueueWorld, node: str) -> None:
    client: redis.Redis = world.redis
    assert present_nodes(client, []) == {}
    assert present_nodes(client, [node]) == {}
    publish_node(client, node, [])
    assert present_nodes(client, [node, "elsewhere"]) == {node: frozenset()}
    publish_node(client, node, ["one", "two"])
    assert present_nodes(client, [node]) == {node: frozenset({"one", "two"})}
    assert 0 < client.ttl(keys.node(node)) <= PRESENCE_SECONDS
    withdraw_node(client, node)
    assert present_nodes(client, [node]) == {}


def test_a_node_learns_which_of_its_hosts_are_fenced(world: QueueWorld, node: str) -> None:
    silent, serving = world.host(), world.host()
    launches = [silent.launch_id, serving.launch_id]
    assert publish_node(world.redis, node, launches) == set()
    silent.die()
    world.sweep.run()
    assert publish_node(world.redis, node, launches) == {silent.launch_id}


def test_cpu_features_are_the_enabled_ones() -> None:
    assert cpu_features("CPU : SSE3 = 1 | AVX512 = 0 | AMX_INT8 = 1 | REPACK = 1 | ") == [
        *("SSE3", "AMX_INT8", "REPACK")
    ]


@pytest.mark.parametrize(
    ("llama_name", "name"), [("CUDA0", "cuda:0"), ("Vulkan12", "vulkan:12"), ("Metal", "metal")]
)
def test_device_names_are_those_of_the_registry(llama_name: str, name: str) -> None:
    assert device_name(llama_name) == name


def test_this_machine_has_a_cpu() -> None:
    facts = probe_node()
    assert facts is not None
    assert facts.cpu_features


def test_a_failed_probe_returns_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        node_module, "_PROBE_COMMAND", (sys.executable, "-c", "raise SystemExit(1)")
    )
    assert probe_node() is None
