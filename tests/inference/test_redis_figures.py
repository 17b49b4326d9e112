"""Figures of hosts and queues as the registry's overview gets them."""

import uuid

import redis
from django.conf import settings

from inference import redis_figures as module
from inference.queue import keys
from inference.redis_figures import redis_figures
from models_registry.fleet.live_figures import HostFigures, Subjects, read_figures
from tests.stack import redis_client

__all__ = ["redis_client"]


def _name() -> str:
    return uuid.uuid4().hex


def test_figures_are_those_of_heartbeats_queues_and_nodes(redis_client: redis.Redis) -> None:
    launch, version, node = _name(), f"{_name()}@v1", _name()
    figures = {"running": 3, "waiting": 1, "tokens_per_second": 41.5}
    redis_client.hset(keys.host(launch), mapping=figures)
    redis_client.zadd(keys.queue(version), {"a": 1, "b": 2})
    redis_client.set(keys.node(node), 1, ex=60)
    found = redis_figures(Subjects([launch, _name()], [version, "other@v1"], [node, _name()]))
    assert found.hosts == {launch: HostFigures(3, 1, 41.5)}
    assert found.queued == {version: 2, "other@v1": 0}
    assert found.alive_nodes == {node}
    assert found.fault == ""


def test_host_without_a_rate_yet_counts_as_idle(redis_client: redis.Redis) -> None:
    launch = _name()
    redis_client.hset(keys.host(launch), mapping={"running": 0, "waiting": 0})
    assert redis_figures(Subjects([launch], [], [])).hosts[launch].tokens_per_second == 0


def test_redis_that_is_away_is_said_and_not_raised(monkeypatch) -> None:
    away = redis.Redis(port=1, socket_connect_timeout=0.1)
    monkeypatch.setattr(module, "_client", lambda: away)
    found = redis_figures(Subjects(["a"], ["m@v1"], ["n"]))
    assert "Redis is out of reach" in found.fault
    assert not found.hosts


def test_registry_asks_this_source() -> None:
    assert settings.REDIS_URL
    assert read_figures(Subjects([], ["m@v1"], [])).queued == {"m@v1": 0}
