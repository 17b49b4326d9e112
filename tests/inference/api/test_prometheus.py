"""``GET /metrics``: who may read it, and the state that it shows."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission
from django.utils import timezone

from inference.database import in_database
from inference.principal import INFERENCE, METRICS_READ
from inference.queue import keys
from inference.runs.runtime import Runtime
from metrics.models import RollMark
from metrics.prometheus import names
from metrics.prometheus.counters import deltas_of, field_of
from models_registry.models import ModelVersion
from tests.metrics.prometheus.test_counters import a_record, samples_of
from tests.stack import Api, ScriptedHost, make_api

HASHES = ("brigade:metrics", "brigade:open", "brigade:unwritten", keys.LOADABLE)


def let_see_all(api: Api) -> Api:
    api.user.user_permissions.add(Permission.objects.get(codename="view"))
    return api


@pytest.fixture
def monitor(database: None) -> Api:
    """A client that may see the usage of all users."""
    return let_see_all(make_api("prometheus", [METRICS_READ]))


@pytest.fixture
def empty_counters(redis_client: redis.Redis) -> Iterator[None]:
    redis_client.delete(*HASHES)
    yield
    redis_client.delete(*HASHES)


@pytest.fixture
def prometheus(monitor: Api, empty_counters: None, service: Runtime) -> Api:
    return monitor


async def scraped(api: Api) -> dict[str, dict[tuple[str, ...], float]]:
    response = await api.get("/metrics")
    assert response.status_code == 200, response.content
    return samples_of(response.content)


def add(client: redis.Redis, fields: dict[str, Any]) -> None:
    for name, amount in fields.items():
        client.hincrbyfloat("brigade:metrics", name, amount)


async def test_metrics_need_a_key_its_scope_and_the_permission(
    service: Runtime, database: None, monitor: Api
):
    plain = await in_database(make_api, "plain", [METRICS_READ])
    unscoped = await in_database(lambda: let_see_all(make_api("unscoped", [INFERENCE])))
    assert (await monitor.client.get("/metrics")).status_code == 401
    for refused, named in ((plain, "metrics.view"), (unscoped, "metrics.read")):
        response = await refused.get("/metrics")
        assert response.status_code == 403
        assert named in json.loads(response.content)["error"]["message"]
    response = await monitor.get("/metrics")
    assert (response.status_code, response["Content-Type"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
    )


async def test_gauges_show_queue_and_hosts(
    prometheus: Api, version: ModelVersion, redis_client: redis.Redis
):
    host = ScriptedHost(redis_client, version.key)
    facts = {
        "running": 3, "waiting": 2, "used_cells": version.kv_cells // 4,
        "private_bytes": 500, "private_before": 100,
    }  # fmt: skip
    host.claims.heartbeat(ready=True, ttl_seconds=60, facts=facts)
    redis_client.zadd(keys.queue(version.key), {"a": 1, "b": 2})
    redis_client.hset("brigade:open", "run", "facts")
    redis_client.sadd(keys.LOADABLE, "")
    slot = timezone.now() - timezone.timedelta(minutes=25)
    for age in (0, 5):
        await in_database(RollMark.objects.create, slot=slot + timezone.timedelta(minutes=age))
    found = await scraped(prometheus)
    of_version = {
        names.RUNNING: 3, names.WAITING: 2, names.KV_USAGE: 0.25,
        names.RESIDENT: 400, names.QUEUE_DEPTH: 2, names.READY: 1,
    }  # fmt: skip
    assert {name: found[name.name][version.key,] for name in of_version} == of_version
    assert found[names.OPEN.name] == {(): 1}
    assert found[names.UNWRITTEN.name] == {(): 0}
    assert found[names.CONTROLLER.name] == {(): 1}
    assert 600 <= found[names.ROLL_LAG.name][()] < 700
    redis_client.delete(keys.queue(version.key))


async def test_counters_stay_and_gauges_go_with_the_hosts(
    prometheus: Api, version: ModelVersion, redis_client: redis.Redis
):
    add(redis_client, deltas_of([a_record(version_key=version.key)]))
    counted = []
    for swap in range(10):
        host = ScriptedHost(redis_client, version.key)
        add(redis_client, {field_of(names.LOADS, version.key): 1})
        during = await scraped(prometheus)
        host.claims.leave()
        after = await scraped(prometheus)
        assert (version.key,) in during[names.RUNNING.name]
        assert names.RUNNING.name not in after
        assert after[names.READY.name][version.key,] == 0
        assert after["brigade_requests_total"] == during["brigade_requests_total"]
        counted.append(after["brigade_loads_total"][version.key,])
        assert counted[-1] == swap + 1
    redis_client.zadd(keys.HOSTS, {"silent": time.time() - 60})
    redis_client.hset(keys.host("silent"), "version_key", version.key)
    assert names.RUNNING.name not in await scraped(prometheus)
    redis_client.zrem(keys.HOSTS, "silent")
    redis_client.delete(keys.host("silent"))


async def test_requests_for_junk_models_add_no_series(
    prometheus: Api, version: ModelVersion, redis_client: redis.Redis, stranger: Api
):
    before = await scraped(prometheus)
    for number in range(20):
        body = {"model": f"junk-{number}", "messages": [{"role": "user", "content": "x"}]}
        assert (await stranger.post("/v1/chat/completions", body)).status_code == 404
    after = await scraped(prometheus)
    added = sum(map(len, after.values())) - sum(map(len, before.values()))
    assert added <= 2


async def test_scrape_of_many_versions_is_fast(
    prometheus: Api, version: ModelVersion, redis_client: redis.Redis
):
    def register() -> list[str]:
        return [
            ModelVersion.objects.create(
                model=version.model, label=f"n{number}", file_name=version.file_name
            ).key
            for number in range(50)
        ]

    registered = await in_database(register)
    add(redis_client, deltas_of(a_record(version_key=key) for key in registered))
    began = time.monotonic()
    found = await scraped(prometheus)
    seconds = time.monotonic() - began
    assert len(found["brigade_requests_total"]) == 50
    # 0.2 s on an idle machine, with the parsing of the answer in this test.
    assert seconds < 2, seconds
