"""How a node shows itself in Redis: that its cluster takes tasks, and which launches run on it."""

from collections.abc import Collection, Sequence
from typing import Any

import redis

from inference.queue import keys

SIGN_OF_LIFE_SECONDS = 5
"""How long a node counts as there after its last sign: some guard cycles of its cluster, each of
which may wait for Redis."""


def show_node(client: redis.Redis, node: str, launches: Collection[str]) -> set[str]:
    """Show that a node is there, and what runs on it.

    Args:
        client: Redis.
        node: its name.
        launches: those that are processes of this node, whatever they still do.

    Returns:
        Those of them that were given up: others have their work, so they must end.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.set(keys.node(node), " ".join(launches), ex=SIGN_OF_LIFE_SECONDS)
    for launch in launches:
        pipeline.exists(keys.fenced(launch))
    _, *fenced = pipeline.execute()
    return {launch for launch, is_fenced in zip(launches, fenced, strict=True) if is_fenced}


def hide_node(client: redis.Redis, node: str) -> None:
    """Let nobody count on a node any more: it stops."""
    client.delete(keys.node(node))


def seen_nodes(client: redis.Redis, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """The nodes whose cluster takes tasks, each with the launches that run on it.

    Args:
        client: Redis.
        names: the nodes to look for.
    """
    if not names:
        return {}
    answers: Any = client.mget([keys.node(name) for name in names])
    return {
        name: frozenset(answer.decode().split())
        for name, answer in zip(names, answers, strict=True)
        if answer is not None
    }
