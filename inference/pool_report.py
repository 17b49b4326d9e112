"""What ``GET /api/status`` and ``get_service_status`` say of the pool."""

from typing import Any, cast

from inference.database import in_database
from inference.queue import keys
from inference.runs.runtime import runtime
from models_registry.fleet.pool import Pool, PooledModel, read_pool


async def pool_report() -> dict[str, Any]:
    """The pool, JSON-ready; times are seconds since 1970."""
    pool = await in_database(read_pool)
    versions = [model.version_key for model in pool.models]
    used: list[bytes | None] = []
    if versions:
        used = await cast("Any", runtime().redis.hmget(keys.USED, versions))
    last_used = {
        key: float(moment) for key, moment in zip(versions, used, strict=True) if moment is not None
    }
    return report_of(pool, last_used)


def report_of(pool: Pool, last_used: dict[str, float]) -> dict[str, Any]:
    """The report: pure.

    Args:
        pool: as the registry sees it.
        last_used: when a request last asked for a version, by key.
    """
    loaded = [model for model in pool.models if model.is_loaded]
    serving = sum(replica.state == "ready" for model in pool.models for replica in model.replicas)
    return {
        "object": "status",
        "initialized": pool.state not in ("initializing", "error"),
        "state": pool.state,
        "worker_pool": {
            "enabled": True,
            "num_workers": pool.places,
            "active_workers": serving,
            "pending_tasks": sum(model.queued for model in pool.models),
            "nodes": pool.nodes,
        },
        "embedding_cache": {"enabled": False},
        "loaded_models": {
            name: _loaded(model, name, _last_used(model, last_used))
            for model in loaded
            for name in _names(model)
        },
        "total_loaded_models": len(loaded),
        "models": [_model(model, _last_used(model, last_used)) for model in pool.models],
        "fault": pool.fault or None,
    }


def _last_used(model: PooledModel, requested: dict[str, float]) -> float | None:
    """When it was asked for last; Redis may have lost it, the rows know it to the minute."""
    noted = model.last_used_at
    return requested.get(model.version_key) or (noted.timestamp() if noted else None)


def _names(model: PooledModel) -> list[str]:
    """What a version is registered as; its key where it is not registered."""
    return sorted({row.model_id for row in model.registrations}) or [model.version_key]


def _loaded(model: PooledModel, name: str, last_used: float | None) -> dict[str, Any]:
    return {
        "reference_count": sum(row.model_id == name for row in model.registrations),
        "last_accessed": last_used,
        "source": "worker_pool",
        "device": ", ".join(model.devices) or None,
        "version": model.version_key,
    }


def _model(model: PooledModel, last_used: float | None) -> dict[str, Any]:
    return {
        "version": model.version_key,
        "state": model.state,
        "references": len(model.registrations),
        "registrations": [
            {"model_id": row.model_id, "requester": row.requester} for row in model.registrations
        ],
        "last_accessed": last_used,
        "queued": model.queued,
        "replicas": [
            {
                "node": replica.node.name,
                "worker_id": str(replica.launch_id) if replica.launch_id else None,
                "desired": replica.desired,
                "state": replica.state,
                "device": replica.device or replica.placed_on,
                "memory_bytes": replica.resident_bytes,
                # The lines after the first are the end of a log, for administrators alone.
                "reason": replica.reason.partition("\n")[0] or None,
            }
            for replica in model.replicas
        ],
    }
