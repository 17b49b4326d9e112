"""Metrics as text in the format of Prometheus: pure."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from metrics.prometheus.counters import INFINITE, SUM
from metrics.prometheus.names import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    MICROSECONDS,
    REFUSED,
    Histogram,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"


class _Families(list[Family], Collector):
    def collect(self) -> list[Family]:
        return self


def exposition(fields: Mapping[str, float], versions: Collection[str]) -> bytes:
    """The text of all metrics.

    Args:
        fields: counters and gauges, named as in the hash of counters.
        versions: keys in the registry; counts of all others become ``other``.
    """
    samples: dict[str, dict[tuple[str, ...], float]]
    samples = defaultdict(lambda: defaultdict(float))
    for field, value in fields.items():
        name, *labels = field.split("|")
        if labels and name != REFUSED.name and labels[0] not in versions:
            labels[0] = OTHER
        samples[name][tuple(labels)] += value
    families = _Families()
    for kind, metrics in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for metric in metrics:
            family = kind(metric.name, metric.help, labels=metric.labels)
            for values, amount in samples[metric.name].items():
                family.add_metric(values, amount / metric.per)
            families.append(family)
    families += [_histogram(each, samples[each.name]) for each in HISTOGRAMS]
    return generate_latest(families)


def _histogram(histogram: Histogram, samples: Mapping[tuple[str, ...], float]) -> Family:
    family = HistogramMetricFamily(histogram.name, histogram.help, labels=("version",))
    bounds = [*(f"{bound:g}" for bound in histogram.bounds), INFINITE]
    for version in {version for version, _ in samples}:
        counts = accumulate(samples.get((version, bound), 0.0) for bound in bounds)
        total = samples.get((version, SUM), 0.0) / MICROSECONDS
        family.add_metric([version], list(zip(bounds, counts, strict=True)), total)
    return family
