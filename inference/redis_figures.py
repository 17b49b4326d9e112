"""Figures of hosts and queues, read from Redis for the registry's overview."""

from functools import cache
from typing import Any

import redis
from django.conf import settings

from inference.queue import keys
from models_registry.fleet.live_figures import HostFigures, LiveFigures, Subjects

# A page that refreshes itself every other second must not wait for a server that is away.
_PATIENCE_SECONDS = 1.0


def redis_figures(subjects: Subjects) -> LiveFigures:
    pipeline = _client().pipeline(transaction=False)
    for launch_id in subjects.launch_ids:
        pipeline.hmget(keys.host(launch_id), "running", "waiting", "tokens_per_second")
    for version_key in subjects.version_keys:
        pipeline.zcard(keys.queue(version_key))
    for node in subjects.nodes:
        pipeline.exists(keys.node(node))
    try:
        answers: list[Any] = pipeline.execute()
    except redis.RedisError as error:
        return LiveFigures(fault=f"Redis is out of reach, so live figures are missing: {error}")
    replies = iter(answers)
    hosts = {launch_id: next(replies) for launch_id in subjects.launch_ids}
    return LiveFigures(
        hosts={
            launch_id: HostFigures(int(running), int(waiting or 0), float(rate or 0))
            for launch_id, (running, waiting, rate) in hosts.items()
            if running is not None
        },
        queued={version_key: next(replies) for version_key in subjects.version_keys},
        alive_nodes=frozenset(name for name in subjects.nodes if next(replies)),
    )


@cache
def _client() -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
    )
    return client
