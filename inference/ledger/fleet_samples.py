"""Samples of the fleet for reports: the memory of each version on each node, and its loads."""

from collections import Counter
from datetime import UTC, datetime
from typing import Final

from django.db.models import F

from metrics.models import FleetSample
from models_registry.models import Replica

EVERY_SECONDS: Final = 300
_PLACE: Final = ("taken_at", "node", "version_key")


class FleetSamples:
    """Samples the memory once in each interval; of several controllers' the last stays."""

    def __init__(self) -> None:
        self._taken: datetime | None = None

    def take(self, now: datetime) -> None:
        """Write the sample of the present interval, unless this process has."""
        interval = _interval(now)
        if interval == self._taken:
            return
        held: Counter[tuple[str, str]] = Counter()
        replicas = Replica.objects.filter(state__in=(Replica.State.READY, Replica.State.DRAINING))
        for replica in replicas.select_related("node", "version__model"):
            held[replica.node.name, replica.version.key] += replica.resident_bytes or 0
        FleetSample.objects.bulk_create(
            [
                FleetSample(taken_at=interval, node=node, version_key=version, resident_bytes=size)
                for (node, version), size in held.items()
            ],
            update_conflicts=True,
            unique_fields=_PLACE,
            update_fields=["resident_bytes"],
        )
        self._taken = interval


def count_load(replica: Replica, now: datetime) -> None:
    """Count a load that begins, in the interval of ``now``."""
    place = dict(zip(_PLACE, (_interval(now), replica.node.name, replica.version.key), strict=True))
    FleetSample.objects.get_or_create(**place, defaults={"resident_bytes": 0})
    FleetSample.objects.filter(**place).update(loads=F("loads") + 1)


def _interval(now: datetime) -> datetime:
    return datetime.fromtimestamp(now.timestamp() // EVERY_SECONDS * EVERY_SECONDS, UTC)
