"""Metrics as text in the format of Prometheus: pure."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
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
    Metric,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
Gauges = Mapping[Metric, Mapping[tuple[str, ...], float]]


class _Families(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def exposition(fields: Mapping[str, float], gauges: Gauges, versions: Collection[str]) -> bytes:
    """The text of all metrics.

    Args:
        fields: the hash of counters.
        gauges: the value of each by its labels.
        versions: keys in the registry; counts of all others become ``other``.
    """
    samples: dict[str, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))
    for field, value in fields.items():
        name, *labels = field.split("|")
        if labels and name != REFUSED.name and labels[0] not in versions:
            labels[0] = OTHER
        samples[name][tuple(labels)] += value
    families = [_simple(CounterMetricFamily, each, samples[each.name]) for each in COUNTERS]
    families += [_histogram(each, samples[each.name]) for each in HISTOGRAMS]
    families += [_simple(GaugeMetricFamily, each, gauges.get(each, {})) for each in GAUGES]
    return generate_latest(_Families(families))


def _simple(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    metric: Metric,
    samples: Mapping[tuple[str, ...], float],
) -> Family:
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        family.add_metric(labels, value / metric.per)
    return family


def _histogram(histogram: Histogram, samples: Mapping[tuple[str, ...], float]) -> Family:
    family = HistogramMetricFamily(histogram.name, histogram.help, labels=("version",))
    bounds = [f"{bound:g}" for bound in histogram.bounds]
    for version in dict.fromkeys(version for version, _ in samples):
        counts = [samples.get((version, bound), 0.0) for bound in (*bounds, INFINITE)]
        buckets = zip((*bounds, "+Inf"), accumulate(counts), strict=True)
        total = samples.get((version, SUM), 0.0) / MICROSECONDS
        family.add_metric([version], list(buckets), total)
    return family
