"""A node: its devices, and its presence in Redis while its models cluster takes tasks."""

import json
import logging
import subprocess
import sys
from collections.abc import Collection, Sequence
from typing import Any

import redis

from inference.queue import keys
from models_registry.fleet.nodes import DeviceFacts, NodeFacts

logger = logging.getLogger(__name__)

# Several guard cycles of the cluster, each of which may wait for Redis.
PRESENCE_SECONDS = 5
_PROBE_SECONDS = 60.0
_PROBE_COMMAND = (sys.executable, "-m", "inference.engine.llama.probe")


def probe_node() -> NodeFacts | None:
    """Ask llama.cpp, in a process of its own, for GPUs and CPU features; None when it fails."""
    try:
        answer = subprocess.run(
            _PROBE_COMMAND, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True
        )
        found = json.loads(answer.stdout)
        return NodeFacts(
            gpus=tuple(DeviceFacts(**gpu) for gpu in found["gpus"]),
            cpu_features=tuple(found["cpu_features"]),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        logger.warning("the devices of this machine are not known: %s", error)
        return None


def publish_node(client: redis.Redis, node: str, launches: Collection[str]) -> set[str]:
    """Renew the presence of a node with its launches; return the launches that are fenced."""
    pipeline = client.pipeline(transaction=False)
    pipeline.set(keys.node(node), " ".join(launches), ex=PRESENCE_SECONDS)
    for launch in launches:
        pipeline.exists(keys.fenced(launch))
    _, *fenced = pipeline.execute()
    return {launch for launch, is_fenced in zip(launches, fenced, strict=True) if is_fenced}


def withdraw_node(client: redis.Redis, node: str) -> None:
    client.delete(keys.node(node))


def present_nodes(client: redis.Redis, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return those of ``names`` whose cluster takes tasks, each with the launches on it."""
    if not names:
        return {}
    answers: Any = client.mget([keys.node(name) for name in names])
    return {
        name: frozenset(answer.decode().split())
        for name, answer in zip(names, answers, strict=True)
        if answer is not None
    }
