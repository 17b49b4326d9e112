"""Compares two servers from runs in pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from inference_site.tools.bench.summary import Summary


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure that is compared.

    Args:
        label: its name in tables.
        unit: ``/s`` for rates, ``s`` for times.
        value: reads it from a run; None where the run has none.
    """

    label: str
    unit: str
    value: Callable[[Summary], float | None]


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """One figure over all pairs; the ratio is ours divided by the peer's, for each pair."""

    label: str
    unit: str
    ours_median: float
    peer_median: float
    ratio_median: float
    ratio_minimum: float
    ratio_maximum: float
    pairs: int


METRICS: tuple[Metric, ...] = (
    Metric("output tok/s", "/s", lambda run: run.output_tokens_per_second or None),
    Metric("total tok/s", "/s", lambda run: run.total_tokens_per_second or None),
    Metric("TTFT p50", "s", lambda run: run.ttft_seconds.p50 if run.ttft_seconds else None),
    Metric("TTFT p95", "s", lambda run: run.ttft_seconds.p95 if run.ttft_seconds else None),
    Metric(
        "ITL p50",
        "s",
        lambda run: run.inter_token_seconds.p50 if run.inter_token_seconds else None,
    ),
    Metric(
        "ITL p95",
        "s",
        lambda run: run.inter_token_seconds.p95 if run.inter_token_seconds else None,
    ),
    Metric(
        "latency p50",
        "s",
        lambda run: run.latency_seconds.p50 if run.latency_seconds else None,
    ),
)


def peer_goes_first(pair: int) -> bool:
    """Whether the peer starts pair number ``pair`` (from 0): A B, B A, A B …

    The order changes so that a machine that grows warmer or busier favours neither.
    """
    return pair % 2 == 1


def compare(pairs: list[tuple[Summary, Summary]]) -> list[ComparedMetric]:
    """Compare (ours, peer) pairs figure by figure.

    A figure that no pair has on both sides is left out, such as TTFT without streaming.
    """
    compared = []
    for metric in METRICS:
        values = [(metric.value(ours), metric.value(peer)) for ours, peer in pairs]
        both = [(a, b) for a, b in values if a is not None and b is not None and b > 0]
        if not both:
            continue
        ratios = [ours / peer for ours, peer in both]
        compared.append(
            ComparedMetric(
                metric.label,
                metric.unit,
                median(ours for ours, _ in both),
                median(peer for _, peer in both),
                median(ratios),
                min(ratios),
                max(ratios),
                len(both),
            )
        )
    return compared
