"""Percentiles, by linear interpolation."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the percentile by linear interpolation between the closest ranks.

    This is type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages" (1996), the
    default of NumPy, R and spreadsheets: of n values x[0..n-1] in order, the percentile p is at
    rank (n - 1) p / 100.

    Args:
        ordered: at least one value, ascending.
        percent: 0 to 100.

    Raises:
        ValueError: there are no values, or ``percent`` is out of range.
    """
    if not ordered:
        raise ValueError("A percentile needs at least one value.")
    if not 0 <= percent <= 100:
        raise ValueError(f"A percentile lies between 0 and 100, not at {percent}.")
    rank = (len(ordered) - 1) * percent / 100
    below = floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Statistics of a set of values, in the unit of the values."""

    count: int
    mean: float
    minimum: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float


def distribution(values: Sequence[float]) -> Distribution | None:
    """Return the statistics of values; None when there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return Distribution(
        count=len(ordered),
        mean=sum(ordered) / len(ordered),
        minimum=ordered[0],
        p50=percentile(ordered, 50),
        p90=percentile(ordered, 90),
        p95=percentile(ordered, 95),
        p99=percentile(ordered, 99),
        maximum=ordered[-1],
    )
