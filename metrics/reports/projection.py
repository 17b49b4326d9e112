"""The cost of a month: so far, and expected at its end with a band."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from metrics.ledger.slots import slot_of
from metrics.reports.query import Query, day_start
from metrics.reports.usage import usage_rows, usd

PAST_DAYS: Final = 28
FEWEST_DAYS: Final = 3
_DRAWS: Final = 1000
_BAND: Final = (10, 90)
_SEED: Final = 28
_DAY: Final = timedelta(days=1)

Costs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outlook:
    """Nano-dollars at the end of the month: expected, and the band of 80 % of the draws."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True)
class Projection:
    """The month's cost of a group, corrections included; an empty group is all that is asked for.

    ``days`` is the number of whole days since the first use in the last 28 days, which the outlook
    is made from. It is None when there are fewer than three.
    """

    group: Mapping[str, Any]
    month: date
    so_far_nano: int
    days: int
    outlook: Outlook | None

    def figures(self) -> dict[str, Any]:
        found = self.outlook
        return {
            "month": self.month.isoformat()[:7],
            "month_so_far": usd(self.so_far_nano),
            "month_projected": usd(found.expected) if found else None,
            "month_projected_low": usd(found.low) if found else None,
            "month_projected_high": usd(found.high) if found else None,
            "days_of_data": self.days,
            "note": "" if found else "too little data",
        }


def projections(query: Query) -> list[Projection]:
    """The current month of all that a query asks for, and then of each of its groups.

    Its range does not matter. Raises ``BadQueryError`` for too many groups.
    """
    now = slot_of(query.asked_at).astimezone(query.zone)
    today = now.date()
    month = today.replace(day=1)
    first = min(month, today - PAST_DAYS * _DAY)
    days = [first + number * _DAY for number in range((today - first).days + 1)]
    # Two buckets a day: until this time of the day, and after it.
    edges = [
        moment
        for day in days
        for moment in (
            day_start(day, query.zone),
            datetime.combine(day, now.time(), query.zone).astimezone(UTC),
        )
    ]
    edges.append(day_start(today + _DAY, query.zone))
    groups: dict[tuple[Any, ...], Mapping[str, Any]] = {(): {}}
    costs: dict[tuple[Any, ...], Costs] = {(): np.zeros(2 * len(days))}
    begun: dict[tuple[Any, ...], int] = {}
    for row in usage_rows(query, edges):
        number = bisect_right(edges, row.since) - 1
        own = tuple(row.group.values())
        groups[own] = row.group
        for key in {(), own}:
            costs.setdefault(key, np.zeros(2 * len(days)))[number] += row.sums.total_nano
            begun[key] = min(begun.get(key, number // 2), number // 2)
    window = len(days) - 1 - PAST_DAYS
    found = []
    for key, halves in costs.items():
        by_day = halves.reshape(-1, 2)
        # The day of the first use is no whole one.
        begin = begun.get(key, len(days))
        start = window if begin <= window else begin + 1
        past = by_day[start:-1]
        so_far = round(by_day[days.index(month) :].sum())
        outlook = None
        if len(past) >= FEWEST_DAYS:
            outlook = look_ahead(past, days[start:-1], today, so_far)
        found.append(Projection(groups[key], month, so_far, len(past), outlook))
    return found


def look_ahead(past: Costs, days: Sequence[date], today: date, so_far: int) -> Outlook:
    """The outlook for the month of ``today`` from the costs of past days.

    A day to come is expected to cost the mean of its weekday, and the rest of today the mean of
    that part of the day. Each draw takes a sample of the past, and from it a day for each to come;
    so the band is wider where the past is short.

    Args:
        past: a row for each day: the cost until this time of the day, and after it.
        days: the dates of the rows.
        today: whose first part is known.
        so_far: cost of the month until now.
    """
    random = np.random.default_rng(_SEED)
    next_month = (today.replace(day=1) + 32 * _DAY).replace(day=1)
    weekdays = np.array([day.weekday() for day in days])
    whole = past.sum(axis=1)
    ahead = [(today + number * _DAY).weekday() for number in range(1, (next_month - today).days)]
    parts = [(past[:, 1], today.weekday(), 1)]
    parts += [(whole, weekday, ahead.count(weekday)) for weekday in range(7)]
    expected = float(so_far)
    draws = np.full(_DRAWS, expected)
    for values, weekday, count in parts:
        alike = values[weekdays == weekday]
        pool = alike if len(alike) > 1 else values
        size, mean = len(pool), pool.mean()
        expected += count * mean
        # A few days spread less than all days would.
        spread = mean + (pool - mean) * (size / (size - 1)) ** 0.5
        samples = random.choice(spread, (_DRAWS, size))
        picks = random.integers(size, size=(_DRAWS, count))
        draws += np.take_along_axis(samples, picks, axis=1).sum(axis=1)
    low, high = np.percentile(draws, _BAND)
    return Outlook(round(expected), round(low), round(high))
