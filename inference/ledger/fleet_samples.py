"""Samples of the fleet for reports: the memory of each version on each node, and its loads."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from redis import Redis

from metrics.ledger import store
from metrics.models import FleetSample
from metrics.prometheus.counters import field_of
from metrics.prometheus.names import LOADS
from models_registry.models import Replica

EVERY_SECONDS: Final = 300


class FleetSamples:
    """Takes a sample at each multiple of ``EVERY_SECONDS``; of several controllers' the first."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._taken = 0
        self._loads: dict[str, int] | None = None

    def take(self, now: datetime) -> None:
        """Write the sample of the present interval, unless this process has."""
        interval = int(now.timestamp()) // EVERY_SECONDS
        if interval == self._taken:
            return
        held: Counter[tuple[str, str]] = Counter()
        replicas = Replica.objects.filter(state__in=(Replica.State.READY, Replica.State.DRAINING))
        for replica in replicas.select_related("node", "version__model"):
            held[replica.node.name, replica.version.key] += replica.resident_bytes or 0
        loads = self._counted_loads()
        before = loads if self._loads is None else self._loads
        self._loads = loads
        nodes = {version: node for node, version in held}
        begun = {
            (nodes.get(version, ""), version): count - before.get(version, 0)
            for version, count in loads.items()
            if count > before.get(version, 0)
        }
        FleetSample.objects.bulk_create(
            [
                FleetSample(
                    taken_at=datetime.fromtimestamp(interval * EVERY_SECONDS, UTC),
                    node=node,
                    version_key=version,
                    resident_bytes=held[node, version],
                    loads=begun.get((node, version), 0),
                )
                for node, version in held.keys() | begun.keys()
            ],
            ignore_conflicts=True,
        )
        self._taken = interval

    def _counted_loads(self) -> dict[str, int]:
        """Loads of each version since Redis counts."""
        counters: Any = self._redis.hgetall(store.COUNTERS)
        prefix = field_of(LOADS, "")
        return {
            name.removeprefix(prefix): int(float(count))
            for raw, count in counters.items()
            if (name := raw.decode()).startswith(prefix)
        }
