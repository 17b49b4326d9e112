"""Figures of hosts and queues out of Redis, for the registry's overview."""

from functools import cache
from typing import Any

import redis
from django.conf import settings

from inference.queue import keys
from models_registry.fleet.live_figures import HostFigures, LiveFigures, Subjects

# A page that refreshes itself every other second must not wait for a server that is away.
_PATIENCE_SECONDS = 1.0
_FIELDS = ("running", "waiting", "tokens_per_second")


def fleet_figures(subjects: Subjects) -> LiveFigures:
    """What Redis has of these hosts, versions and nodes; a ``FigureSource``."""
    pipeline = _client().pipeline(transaction=False)
    for launch_id in subjects.launch_ids:
        pipeline.hmget(keys.host(launch_id), _FIELDS)
    for version_key in subjects.version_keys:
        pipeline.zcard(keys.queue(version_key))
    for node in subjects.nodes:
        pipeline.exists(keys.node(node))
    try:
        answers: list[Any] = pipeline.execute()
    except redis.RedisError as error:
        return LiveFigures(fault=f"Redis is out of reach, so live figures are missing: {error}")
    hosts, rest = _split(answers, len(subjects.launch_ids))
    queues, nodes = _split(rest, len(subjects.version_keys))
    return LiveFigures(
        hosts={
            launch_id: _host(values)
            for launch_id, values in zip(subjects.launch_ids, hosts, strict=True)
            if values[0] is not None
        },
        queued=dict(zip(subjects.version_keys, queues, strict=True)),
        alive_nodes=frozenset(
            name for name, seen in zip(subjects.nodes, nodes, strict=True) if seen
        ),
    )


@cache
def _client() -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
    )
    return client


def _host(values: list[bytes | None]) -> HostFigures:
    running, waiting, rate = (float(value or 0) for value in values)
    return HostFigures(int(running), int(waiting), rate)


def _split(answers: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    return answers[:count], answers[count:]
