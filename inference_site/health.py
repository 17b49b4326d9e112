"""``/health``: the process answers. ``/health/ready``: it can serve, and what is missing if not."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec
from django.db import connection
from django.http import HttpRequest, HttpResponse

from inference.conf import inference_settings
from inference.database import in_database
from inference.queue import keys
from inference.services import inference_service
from models_registry.selectors import ReplicaStatus, pinned_keys, replica_statuses

PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Probe:
    """How one dependency answered."""

    ok: bool
    latency_ms: float
    value: Any = None
    error: str | None = None


async def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 as long as the process answers at all."""
    return _json({"status": "ok"}, 200)


async def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 when every wanted model is served and every dependency answers, else 503."""
    postgres, redis = await asyncio.gather(_probe(_ask_postgres), _probe(_ask_redis))
    replicas, pinned = postgres.value or ([], set())
    serving, can_load = redis.value or (set(), False)
    content = readiness(postgres, redis, replicas, serving, pinned=pinned, can_load=can_load)
    content["config"] = inference_settings().config_preset or None
    return _json(content, 200 if content["status"] == "ready" else 503)


def readiness(
    postgres: Probe,
    redis: Probe,
    replicas: list[ReplicaStatus],
    serving: set[str],
    *,
    pinned: Collection[str] = (),
    can_load: bool = False,
) -> dict[str, Any]:
    """The body of ``/health/ready``: pure.

    What counts is what is to be in memory whether anybody asks or not; what only requests brought
    in may come and go.

    Args:
        postgres, redis: their probes.
        replicas: what the registry wants and has seen.
        serving: keys of versions that a living host serves, by its heartbeat.
        pinned: keys of versions that are always wanted.
        can_load: whether models are brought in when somebody asks for them.
    """
    standing = {replica.version_key for replica in replicas if replica.is_standing}
    wanted = sorted(standing | set(pinned))
    loaded = [key for key in wanted if key in serving] if postgres.ok else sorted(serving)
    hosts_ok = postgres.ok and redis.ok and loaded == wanted and (bool(wanted) or can_load)
    reasons = [
        f"{name} does not answer: {probe.error}"
        for name, probe in (("Postgres", postgres), ("Redis", redis))
        if not probe.ok
    ]
    if postgres.ok and redis.ok and not wanted and not can_load:
        reasons.append(
            "No model is to be loaded, and the controller loads none on demand. Load one in the "
            "admin, and see that the controller runs."
        )
    elif postgres.ok and redis.ok and loaded != wanted:
        reasons.append(
            "Models still loading: " + ", ".join(key for key in wanted if key not in loaded)
        )
    content: dict[str, Any] = {
        "status": "not_ready" if reasons else "ready",
        "loaded_models": list(dict.fromkeys(key.partition("@")[0] for key in sorted(serving))),
        # Without Postgres nobody knows what is wanted.
        "progress": f"{len(loaded)}/{max(len(wanted), len(loaded))}",
        "orchestration_mode": "single",
        "dependencies": {
            "postgres": _dependency(postgres),
            "redis": _dependency(redis),
            "hosts": {
                "status": "ok" if hosts_ok else "down" if not loaded else "degraded",
                "latency_ms": redis.latency_ms,
                "replicas": [
                    {
                        "version": replica.version_key,
                        "node": replica.node,
                        "state": _true_state(replica, serving) if redis.ok else replica.state,
                        "progress": round(replica.load_fraction, 2),
                        "reason": replica.reason or None,
                    }
                    for replica in replicas
                    if replica.desired == "resident"
                ],
            },
        },
    }
    if reasons:
        content["reason"] = " ".join(reasons)
    return content


def _true_state(replica: ReplicaStatus, serving: set[str]) -> str:
    """The registry's word, unless the heartbeat tells otherwise."""
    if replica.state == "ready" and replica.version_key not in serving:
        return "lost"
    return replica.state


def _dependency(probe: Probe) -> dict[str, Any]:
    return {
        "status": "ok" if probe.ok else "down",
        "latency_ms": probe.latency_ms,
        "error": probe.error,
    }


async def _probe(ask: Callable[[], Awaitable[Any]]) -> Probe:
    began = time.monotonic()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            value = await ask()
    except Exception as error:  # whatever it is, the dependency does not answer
        return Probe(False, _milliseconds(began), error=str(error) or type(error).__name__)
    return Probe(True, _milliseconds(began), value)


async def _ask_postgres() -> tuple[list[ReplicaStatus], set[str]]:
    """The replicas, and the keys of pinned versions."""

    def ask() -> tuple[list[ReplicaStatus], set[str]]:
        connection.ensure_connection()
        return replica_statuses(), pinned_keys()

    return await in_database(ask)


async def _ask_redis() -> tuple[set[str], bool]:
    """Keys of versions that have a host with a fresh heartbeat, and whether more can be loaded."""
    service = inference_service()
    client = service.redis
    seconds, _ = await client.time()
    oldest = seconds - service.settings.lease_seconds
    launches: Any = await client.zrange(keys.HOSTS, oldest, "+inf", byscore=True)
    pipeline = client.pipeline(transaction=False)
    for launch in launches:
        pipeline.hget(keys.host(launch.decode()), "version_key")
    versions = {raw.decode() for raw in await pipeline.execute() if raw}
    for version_key in versions:
        pipeline.zcount(keys.ready(version_key), oldest, "+inf")
    counts = await pipeline.execute()
    serving = {key for key, count in zip(versions, counts, strict=True) if count}
    return serving, bool(await client.exists(keys.LOADABLE))


def _milliseconds(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 2)


def _json(content: dict[str, Any], status: int) -> HttpResponse:
    return HttpResponse(
        msgspec.json.encode(content), status=status, content_type="application/json"
    )
