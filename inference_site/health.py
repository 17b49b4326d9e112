"""``/health``: the process runs. ``/health/ready``: the service can serve, or what is missing."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse

from caching.semantic.verdicts import tallies
from inference.api.view import json_response
from inference.conf import inference_settings
from inference.database import in_database
from inference.queue import keys
from inference.runs.runtime import runtime
from models_registry.catalogue.status import ReplicaStatus, pinned_keys, replica_statuses
from models_registry.fleet.preloading import configured_now, configured_preset
from models_registry.fleet.preset_fit import NodeFit, crowded_nodes
from models_registry.models import Replica

PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Probe:
    ok: bool
    latency_ms: float
    value: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Wanted:
    """Desired and observed state in the registry.

    ``pinned`` are keys of versions. On ``crowded`` nodes not all desired versions fit at once.
    ``config`` is the preset that the settings load, ``stopped`` the semantic caches that have
    stopped, by version and preset.
    """

    replicas: Sequence[ReplicaStatus] = ()
    pinned: Collection[str] = ()
    crowded: Sequence[NodeFit] = ()
    config: str | None = None
    orchestration_mode: str = "single"
    stopped: Sequence[str] = ()


async def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    return json_response({"status": "ok"})


async def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Answer 200 when every desired model is served and every dependency answers, else 503."""
    postgres, redis = await asyncio.gather(_probe(_ask_postgres), _probe(_ask_redis))
    wanted = postgres.value or Wanted()
    serving, can_load = redis.value or (set(), False)
    content = readiness(postgres, redis, wanted, serving, can_load=can_load)
    return json_response(content, 200 if content["status"] == "ready" else 503)


def readiness(
    postgres: Probe,
    redis: Probe,
    wanted: Wanted,
    serving: set[str],
    *,
    can_load: bool = False,
) -> dict[str, Any]:
    """Return the body of ``/health/ready``; pure.

    Versions that were loaded only on demand do not count. Where not all desired versions fit at
    once, those that take turns are not awaited; a version that fits on no node is.

    Args:
        serving: keys of versions that a host with a fresh heartbeat serves.
        can_load: whether the controller loads versions on demand.
    """
    awaited = _awaited(wanted, serving)
    loaded = [key for key in awaited if key in serving] if postgres.ok else sorted(serving)
    hosts_ok = postgres.ok and redis.ok and loaded == awaited and (bool(awaited) or can_load)
    numbers = [f"{fit.node}: {text}" for fit in wanted.crowded for text in fit.sentences]
    probes = (("Postgres", postgres), ("Redis", redis))
    reasons = [f"{name} does not answer: {probe.error}" for name, probe in probes if not probe.ok]
    if not reasons and not awaited and not can_load:
        reasons.append(
            "No model is to be loaded, and the controller loads none on demand. Load one in the "
            "admin, and check that the controller runs."
        )
    elif not reasons and loaded != awaited:
        reasons += [*_missing(awaited, serving, wanted.crowded), *numbers]
    content: dict[str, Any] = {
        "status": "not_ready" if reasons else "ready",
        "loaded_models": list(dict.fromkeys(key.partition("@")[0] for key in sorted(serving))),
        # Without Postgres the desired state is unknown.
        "progress": f"{len(loaded)}/{max(len(awaited), len(loaded))}",
        "config": wanted.config,
        "orchestration_mode": wanted.orchestration_mode,
        "dependencies": {
            "postgres": _dependency(postgres),
            "redis": _dependency(redis),
            "hosts": {
                "status": "ok" if hosts_ok else "down" if not loaded else "degraded",
                "latency_ms": redis.latency_ms,
                "replicas": _replicas(wanted, serving if redis.ok else None),
            },
        },
    }
    notices = [*numbers, *(f"The semantic cache of {one} has stopped." for one in wanted.stopped)]
    if reasons:
        content["reason"] = " ".join(reasons)
    elif notices:
        content["notice"] = " ".join(notices)
    return content


def _awaited(wanted: Wanted, serving: Collection[str]) -> list[str]:
    """Return the keys of the versions that must serve before the service is ready."""
    standing = [replica for replica in wanted.replicas if replica.is_standing]
    excused: set[tuple[str, str]] = set()
    for fit in wanted.crowded:
        here = {one.version_key: one for one in standing if one.node == fit.node}
        members = {one.version_key for one in fit.members}
        # After the first eviction, members take turns: one that serves is enough.
        take_turns = not fit.never.union(here).issuperset(members) and members & set(serving)
        out_of_turn = fit.out_of_turn(serving)
        excused |= {
            (fit.node, key)
            for key, replica in here.items()
            # A failed replica is always awaited; a loading one, unless members take turns.
            if key not in serving
            and (
                (take_turns and replica.state != Replica.State.FAILED)
                or (replica.state == Replica.State.STOPPED and key in out_of_turn)
            )
        }
    keys = {one.version_key for one in standing if (one.node, one.version_key) not in excused}
    return sorted(keys.union(wanted.pinned, *(fit.never for fit in wanted.crowded)))


def _missing(
    awaited: Sequence[str], serving: Collection[str], crowded: Sequence[NodeFit]
) -> list[str]:
    never = {key for fit in crowded for key in fit.never}
    coming = [key for key in awaited if key not in serving and key not in never]
    hopeless = [key for key in awaited if key not in serving and key in never]
    found = [f"Models still loading: {', '.join(coming)}"] if coming else []
    if hopeless:
        found.append(f"Too large to be loaded: {', '.join(hopeless)}.")
    return found


def _replicas(wanted: Wanted, serving: Collection[str] | None) -> list[dict[str, Any]]:
    """Return the replicas for the answer; ``serving`` is None where it is unknown."""

    def state(replica: ReplicaStatus) -> str:
        is_silent = serving is not None and replica.version_key not in serving
        return "lost" if is_silent and replica.state == Replica.State.READY else replica.state

    return [
        {
            "version": replica.version_key,
            "node": replica.node,
            "state": state(replica),
            "progress": round(replica.load_fraction, 2),
            "reason": replica.reason or None,
        }
        for replica in wanted.replicas
        if replica.desired == Replica.Desired.RESIDENT
    ]


def _dependency(probe: Probe) -> dict[str, Any]:
    return {
        "status": "ok" if probe.ok else "down",
        "latency_ms": probe.latency_ms,
        "error": probe.error,
    }


async def _probe(ask: Callable[[], Awaitable[Any]]) -> Probe:
    began = time.monotonic()
    value, error = None, None
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            value = await ask()
    except Exception as failure:  # any error means that the dependency does not answer
        error = str(failure) or type(failure).__name__
    return Probe(error is None, round((time.monotonic() - began) * 1000, 2), value, error)


async def _ask_postgres() -> Wanted:
    def ask() -> Wanted:
        connection.ensure_connection()
        settings = inference_settings()
        preset = configured_preset(settings.preload_models, settings.config_preset)
        return Wanted(
            replicas=replica_statuses(),
            pinned=pinned_keys(),
            crowded=crowded_nodes(configured_now(), settings.node_name),
            config=preset.name if preset else None,
            orchestration_mode=preset.orchestration_mode if preset else "single",
            stopped=[
                f"{one.version_key} {one.preset}".strip() for one in tallies() if one.is_stopped
            ],
        )

    return await in_database(ask)


async def _ask_redis() -> tuple[set[str], bool]:
    """Return the keys of versions with a fresh heartbeat, and whether the controller loads more."""
    service = runtime()
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
