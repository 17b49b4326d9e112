"""``GET /metrics``: the state of the whole service for Prometheus, from any web process."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.utils import timezone
from redis.asyncio import Redis
from rest_framework.request import Request

from inference.api.view import ApiView, principal_in
from inference.database import in_database
from inference.errors import PermissionDeniedError
from inference.principal import METRICS_READ
from inference.queue import keys
from inference.runs.runtime import runtime
from metrics.ledger import store
from metrics.models import RollMark
from metrics.prometheus import names
from metrics.prometheus.exposition import CONTENT_TYPE, exposition
from metrics.visibility import SEE_EVERYTHING
from models_registry.models import ModelVersion

_SLOT = timedelta(minutes=15)
_HOST_FIELDS = (
    "version_key",
    "running",
    "waiting",
    "used_cells",
    "private_bytes",
    "private_before",
)

Values = dict[tuple[str, ...], float]


class Prometheus(ApiView):
    required_scope = METRICS_READ

    async def get(self, request: Request) -> HttpResponse:
        kv_cells, roll_lag = await in_database(_registry, principal_in(request).user_id)
        shared = runtime()
        fields, gauges = await _live(shared.redis, kv_cells, shared.settings.lease_seconds)
        gauges[names.ROLL_LAG] = {(): roll_lag}
        # In a thread: thousands of lines must not hold up the streams of this process.
        text = await asyncio.to_thread(exposition, fields, gauges, kv_cells)
        return HttpResponse(text, content_type=CONTENT_TYPE)


def _registry(user_id: int) -> tuple[dict[str, int], float]:
    """The KV cells of a host by version key, and the age of the oldest totals out of date.

    Raises:
        PermissionDeniedError: the user may not see the usage of all users.
    """
    if not get_user_model().objects.get(pk=user_id).has_perm(SEE_EVERYTHING):
        raise PermissionDeniedError(
            "Metrics show the usage of all users. Ask for the permission 'metrics.view'.",
            details={"required": SEE_EVERYTHING},
        )
    rows = ModelVersion.objects.values_list("model__slug", "label", "kv_cells")
    slot = RollMark.objects.order_by("pk").values_list("slot", flat=True).first()
    lag = (timezone.now() - slot - _SLOT).total_seconds() if slot else 0.0
    return {f"{slug}@{label}": cells for slug, label, cells in rows}, max(0.0, lag)


async def _live(
    client: Redis, kv_cells: Mapping[str, int], lease_seconds: float
) -> tuple[dict[str, float], dict[names.Metric, Values]]:
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
    for version in kv_cells:
        pipeline.zcount(keys.ready(version), oldest, "+inf")
    fields, launches, controllers, accepted, unwritten, *counts = await pipeline.execute()
    for launch in launches:
        pipeline.hmget(keys.host(launch.decode()), *_HOST_FIELDS)
    gauges = _host_gauges(await pipeline.execute(), kv_cells)
    by_version = [(version,) for version in kv_cells]
    gauges[names.QUEUE_DEPTH] = dict(zip(by_version, counts, strict=False))
    gauges[names.READY] = dict(zip(by_version, counts[len(kv_cells) :], strict=True))
    gauges[names.CONTROLLER] = {(): controllers}
    gauges[names.OPEN] = {(): accepted}
    gauges[names.UNWRITTEN] = {(): unwritten}
    return {name.decode(): float(value) for name, value in fields.items()}, gauges


def _host_gauges(
    hosts: list[list[bytes | None]], kv_cells: Mapping[str, int]
) -> dict[names.Metric, Values]:
    """Sums over the hosts of each version of the registry: pure."""
    gauges: Any = defaultdict(lambda: defaultdict(float))
    capacity: Values = defaultdict(float)
    for name, *figures in hosts:
        version = (name or b"").decode()
        if version not in kv_cells:
            continue
        running, waiting, cells, held, before = (float(value or 0) for value in figures)
        gauges[names.RUNNING][version,] += running
        gauges[names.WAITING][version,] += waiting
        gauges[names.KV_CELLS][version,] += cells
        gauges[names.RESIDENT][version,] += max(0.0, held - before)
        capacity[version,] += kv_cells[version]
    gauges[names.KV_USAGE] = {
        version: gauges[names.KV_CELLS][version] / cells
        for version, cells in capacity.items()
        if cells
    }
    return dict(gauges)
