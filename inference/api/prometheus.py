"""``GET /metrics``: the state of the whole service for Prometheus, from any web process."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.db.models import Min
from django.http import HttpResponse
from django.utils import timezone
from redis.asyncio import Redis
from rest_framework.request import Request

from caching.semantic.verdicts import tallies
from inference.api.view import ApiView, principal_in
from inference.database import in_database
from inference.errors import PermissionDeniedError
from inference.principal import METRICS_READ
from inference.queue import keys
from inference.runs.runtime import runtime
from metrics.ledger import store
from metrics.models import RollMark
from metrics.prometheus import names
from metrics.prometheus.counters import field_of
from metrics.prometheus.exposition import CONTENT_TYPE, exposition
from metrics.visibility import SEE_EVERYTHING
from models_registry.models import ModelVersion

_SLOT = timedelta(minutes=15)
_HOST_FIELDS = (
    *("version_key", "running", "waiting", "used_cells"),
    *("private_bytes", "private_before"),
)


class Prometheus(ApiView):
    required_scope = METRICS_READ

    async def get(self, request: Request) -> HttpResponse:
        kv_cells, gauges = await in_database(_rows, principal_in(request).user_id)
        shared = runtime()
        fields = await _live(shared.redis, kv_cells, shared.settings.lease_seconds)
        fields |= gauges
        # In a thread: thousands of lines must not hold up the streams of this process.
        text = await asyncio.to_thread(exposition, fields, kv_cells)
        return HttpResponse(text, content_type=CONTENT_TYPE)


def _rows(user_id: int) -> tuple[dict[str, int], dict[str, float]]:
    """The KV cells of a host by version key, and the gauges that Postgres gives.

    Raises:
        PermissionDeniedError: the user may not see the usage of all users.
    """
    if not get_user_model().objects.get(pk=user_id).has_perm(SEE_EVERYTHING):
        raise PermissionDeniedError(
            "Metrics show the usage of all users. Ask for the permission 'metrics.view'.",
            details={"required": SEE_EVERYTHING},
        )
    rows = ModelVersion.objects.values_list("model__slug", "label", "kv_cells")
    slot = RollMark.objects.aggregate(oldest=Min("slot"))["oldest"]
    lag = (timezone.now() - slot - _SLOT).total_seconds() if slot else 0.0
    gauges = {
        field_of(names.CACHE_WRONG, one.version_key, one.preset): one.wrong / one.comparisons
        for one in tallies()
    }
    gauges[names.ROLL_LAG.name] = max(0.0, lag)
    return {f"{slug}@{label}": cells for slug, label, cells in rows}, gauges


async def _live(
    client: Redis, kv_cells: Mapping[str, int], lease_seconds: float
) -> dict[str, float]:
    """The counters, and the gauges that hosts and queues give."""
    seconds, _ = await client.time()
    oldest = seconds - lease_seconds
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(store.COUNTERS)
    pipeline.zrange(keys.HOSTS, oldest, "+inf", byscore=True)
    pipeline.exists(keys.LOADABLE)
    pipeline.hlen(store.OPEN)
    pipeline.hlen(store.UNWRITTEN)
    for version in kv_cells:
        pipeline.zcard(keys.queue(version))
        pipeline.zcount(keys.ready(version), oldest, "+inf")
    counters, launches, controllers, accepted, unwritten, *counts = await pipeline.execute()
    for launch in launches:
        pipeline.hmget(keys.host(launch.decode()), *_HOST_FIELDS)
    fields = _host_gauges(await pipeline.execute(), kv_cells)
    for version, waiting, ready in zip(kv_cells, counts[::2], counts[1::2], strict=True):
        fields[field_of(names.QUEUE_DEPTH, version)] = waiting
        fields[field_of(names.READY, version)] = ready
    fields[names.CONTROLLER.name] = controllers
    fields[names.OPEN.name] = accepted
    fields[names.UNWRITTEN.name] = unwritten
    return fields | {name.decode(): float(value) for name, value in counters.items()}


def _host_gauges(hosts: list[list[bytes | None]], kv_cells: Mapping[str, int]) -> dict[str, float]:
    """Sums over the hosts of each version of the registry: pure."""
    gauges: dict[str, float] = defaultdict(float)
    capacity: dict[str, float] = defaultdict(float)
    for name, *figures in hosts:
        version = (name or b"").decode()
        if version not in kv_cells:
            continue
        running, waiting, cells, held, before = (float(value or 0) for value in figures)
        gauges[field_of(names.RUNNING, version)] += running
        gauges[field_of(names.WAITING, version)] += waiting
        gauges[field_of(names.RESIDENT, version)] += max(0.0, held - before)
        gauges[field_of(names.KV_USAGE, version)] += cells
        capacity[field_of(names.KV_USAGE, version)] += kv_cells[version]
    return gauges | {field: gauges[field] / cells for field, cells in capacity.items() if cells}
