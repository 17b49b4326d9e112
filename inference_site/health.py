"""``/health``: the process answers. ``/health/ready``: it can serve, and what is missing if not."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from django.db import connection
from django.http import HttpRequest, HttpResponse

from inference.conf import inference_settings
from inference.database import in_database
from inference.queue import keys
from inference.runs.service import inference_service
from models_registry.catalogue.status import ReplicaStatus, pinned_keys, replica_statuses
from models_registry.fleet.preloading import configured_now, configured_preset
from models_registry.fleet.preset_fit import NodeFit, crowded_nodes

PROBE_SECONDS = 3.0


@dataclass(frozen=True)
class Probe:
    """How one dependency answered."""

    ok: bool
    latency_ms: float
    value: Any = None
    error: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What the registry wants in memory, and has seen.

    ``pinned`` are the keys of versions that are always wanted. ``crowded`` are the nodes where not
    all that is wanted fits at once. ``config`` is the preset that the settings load, with its mode.
    """

    replicas: Sequence[ReplicaStatus] = ()
    pinned: Collection[str] = ()
    crowded: Sequence[NodeFit] = ()
    config: str | None = None
    orchestration_mode: str = "single"


async def live(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 as long as the process answers at all."""
    return _json({"status": "ok"}, 200)


async def ready(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """200 when every wanted model is served and every dependency answers, else 503."""
    postgres, redis = await asyncio.gather(_probe(_ask_postgres), _probe(_ask_redis))
    wanted = postgres.value or Wanted()
    serving, can_load = redis.value or (set(), False)
    content = readiness(postgres, redis, wanted, serving, can_load=can_load)
    return _json(content, 200 if content["status"] == "ready" else 503)


def readiness(
    postgres: Probe,
    redis: Probe,
    wanted: Wanted,
    serving: set[str],
    *,
    can_load: bool = False,
) -> dict[str, Any]:
    """The body of ``/health/ready``: pure.

    What counts is what is to be in memory whether anybody asks or not; what only requests brought
    in may come and go. Where not all of it fits at once, what cannot come beside the others is not
    waited for; what fits nowhere is.

    Args:
        postgres, redis: their probes.
        wanted: what the registry wants and has seen.
        serving: keys of versions that a living host serves, by its heartbeat.
        can_load: whether models are brought in when somebody asks for them.
    """
    awaited = _awaited(wanted, serving)
    loaded = [key for key in awaited if key in serving] if postgres.ok else sorted(serving)
    hosts_ok = postgres.ok and redis.ok and loaded == awaited and (bool(awaited) or can_load)
    numbers = [f"{fit.node}: {text}" for fit in wanted.crowded for text in fit.sentences]
    reasons = _faults(postgres, redis)
    if not reasons and not awaited and not can_load:
        reasons.append(
            "No model is to be loaded, and the controller loads none on demand. Load one in the "
            "admin, and see that the controller runs."
        )
    elif not reasons and loaded != awaited:
        reasons += [*_missing(awaited, serving, wanted.crowded), *numbers]
    content: dict[str, Any] = {
        "status": "not_ready" if reasons else "ready",
        "loaded_models": list(dict.fromkeys(key.partition("@")[0] for key in sorted(serving))),
        # Without Postgres nobody knows what is wanted.
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
    if reasons:
        content["reason"] = " ".join(reasons)
    elif numbers:
        content["notice"] = " ".join(numbers)
    return content


def _faults(postgres: Probe, redis: Probe) -> list[str]:
    """Which stores do not answer."""
    probes = (("Postgres", postgres), ("Redis", redis))
    return [f"{name} does not answer: {probe.error}" for name, probe in probes if not probe.ok]


def _awaited(wanted: Wanted, serving: Collection[str]) -> list[str]:
    """Keys of the versions that are to serve before the service is ready."""
    standing = [replica for replica in wanted.replicas if replica.is_standing]
    excused: set[tuple[str, str]] = set()
    for fit in wanted.crowded:
        here = {one.version_key: one for one in standing if one.node == fit.node}
        members = {one.version_key for one in fit.members}
        # Once a member was put out for another the start is over, and they come and go: as long as
        # any of them serves.
        take_turns = not fit.never.union(here).issuperset(members) and members & set(serving)
        out_of_turn = fit.out_of_turn(serving)
        excused |= {
            (fit.node, key)
            for key, replica in here.items()
            # What is on its way has found its room.
            if key not in serving
            and (
                (take_turns and replica.state != "failed")
                or (replica.state == "stopped" and key in out_of_turn)
            )
        }
    keys = {one.version_key for one in standing if (one.node, one.version_key) not in excused}
    return sorted(keys.union(wanted.pinned, *(fit.never for fit in wanted.crowded)))


def _missing(
    awaited: Sequence[str], serving: Collection[str], crowded: Sequence[NodeFit]
) -> list[str]:
    """Which versions are still to come, and which never will."""
    never = {key for fit in crowded for key in fit.never}
    coming = [key for key in awaited if key not in serving and key not in never]
    hopeless = [key for key in awaited if key not in serving and key in never]
    found = [f"Models still loading: {', '.join(coming)}"] if coming else []
    if hopeless:
        found.append(f"Too large to be loaded: {', '.join(hopeless)}.")
    return found


def _replicas(wanted: Wanted, serving: Collection[str] | None) -> list[dict[str, Any]]:
    """Replicas as clients see them: the registry's word, unless the heartbeat tells otherwise.

    Args:
        wanted: as the registry sees them.
        serving: keys of versions that are served; None where nobody knows.
    """
    found = []
    for replica in wanted.replicas:
        is_silent = serving is not None and replica.version_key not in serving
        if replica.desired == "resident":
            found.append(
                {
                    "version": replica.version_key,
                    "node": replica.node,
                    "state": "lost" if is_silent and replica.state == "ready" else replica.state,
                    "progress": round(replica.load_fraction, 2),
                    "reason": replica.reason or None,
                }
            )
    return found


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


async def _ask_postgres() -> Wanted:
    """What the registry wants in memory."""

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
        )

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
