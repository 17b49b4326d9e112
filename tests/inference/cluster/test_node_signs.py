"""A node shows in Redis that it is there, and is told which of its hosts were given up."""

import uuid
from collections.abc import Iterator

import pytest
import redis

from inference.cluster.node_signs import SIGN_OF_LIFE_SECONDS, hide_node, seen_nodes, show_node
from inference.queue import keys
from tests.inference.queue.world import QueueWorld


@pytest.fixture
def node(world: QueueWorld) -> Iterator[str]:
    """The name of a node."""
    name = f"n-{uuid.uuid4().hex}"
    yield name
    world.redis.delete(keys.node(name))


def test_a_node_is_seen_with_what_runs_on_it(world: QueueWorld, node: str) -> None:
    client: redis.Redis = world.redis
    assert seen_nodes(client, []) == {}
    assert seen_nodes(client, [node]) == {}
    show_node(client, node, [])
    assert seen_nodes(client, [node, "elsewhere"]) == {node: frozenset()}
    show_node(client, node, ["one", "two"])
    assert seen_nodes(client, [node]) == {node: frozenset({"one", "two"})}
    assert 0 < client.ttl(keys.node(node)) <= SIGN_OF_LIFE_SECONDS
    hide_node(client, node)
    assert seen_nodes(client, [node]) == {}


def test_a_node_is_told_which_of_its_hosts_were_given_up(world: QueueWorld, node: str) -> None:
    silent, serving = world.host(), world.host()
    launches = [silent.launch_id, serving.launch_id]
    assert show_node(world.redis, node, launches) == set()
    silent.die()
    world.sweep.run()
    assert show_node(world.redis, node, launches) == {silent.launch_id}
