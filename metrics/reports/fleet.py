"""The fleet over time: memory that versions held, and their loads."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Sum

from metrics.models import FleetSample
from metrics.reports.query import Query, ReportRow
from metrics.reports.usage import bucket_number


@dataclass(frozen=True)
class FleetRow(ReportRow):
    """A version on a node: its memory on average over the samples of the bucket."""

    resident_bytes: int
    loads: int

    def figures(self) -> dict[str, Any]:
        return {"resident_bytes": self.resident_bytes, "loads": self.loads}


def fleet_report(query: Query) -> list[FleetRow]:
    """The fleet by bucket, node and version; groups and filters have no meaning here.

    How long requests waited in queues, ``latency_report`` knows.
    """
    edges = query.edges
    samples = (
        FleetSample.objects.filter(taken_at__gte=edges[0], taken_at__lt=edges[-1])
        .annotate(number=bucket_number("taken_at", edges))
        .order_by()
    )
    # A version that is not in memory has no sample, so moments are counted over all of them.
    moments = dict(samples.values_list("number").annotate(Count("taken_at", distinct=True)))
    sums = samples.values_list("number", "node", "version_key").annotate(
        Sum("resident_bytes"), Sum("loads")
    )
    return [
        FleetRow(
            edges[number - 1],
            edges[number],
            {"node": node, "version": version},
            held // moments[number],
            loads,
        )
        for number, node, version, held, loads in sorted(sums)
    ]
