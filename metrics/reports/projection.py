"""The cost of a month: so far, and expected at its end with a band."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from math import sqrt
from statistics import NormalDist, fmean
from typing import Any, Final, NamedTuple

from metrics.ledger.slots import SLOT, slot_of
from metrics.reports.query import Query, day_start
from metrics.reports.usage import usage_rows, usd

PAST_DAYS: Final = 28
FEWEST_DAYS: Final = 3
# With fewer days a weekday is no better a guide than all days are.
_DAYS_FOR_WEEKDAYS: Final = 14
_MOST_ROWS: Final = 200_000
# 10 % of the outcomes are further below the mean, and 10 % further above it.
_Z: Final = NormalDist().inv_cdf(0.9)
_DAY: Final = timedelta(days=1)


class Outlook(NamedTuple):
    """Nano-dollars at the end of the month: expected, and the band that 80 % of outcomes are in."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True)
class Projection:
    """The month's cost of a group, corrections included; an empty group is all that is asked for.

    ``days`` is the number of whole days since the first use in the last 28 days, which the outlook
    is made from. It is None when there are fewer than three.
    """

    group: dict[str, Any]
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
    zone, now = query.zone, query.asked_at
    today = now.astimezone(zone).date()
    month, window = today.replace(day=1), today - PAST_DAYS * _DAY
    tomorrow = day_start(today + _DAY, zone)
    left_of_today = (tomorrow - now) / (tomorrow - day_start(today, zone))
    since, until = day_start(min(month, window), zone), slot_of(now) + SLOT
    by_day = replace(query, since=since, until=until, period="day")
    costs: dict[tuple[Any, ...], Counter[date]] = defaultdict(Counter, {(): Counter()})
    for row in usage_rows(by_day, _MOST_ROWS):
        for group in {(), tuple(row.group.items())}:
            costs[group][row.since.astimezone(zone).date()] += row.sums.total_nano
    found = []
    for group, by_date in costs.items():
        begin = min(by_date, default=today)
        # The day of the first use is no whole one.
        begin = window if begin <= window else begin + _DAY
        days = (today - number * _DAY for number in range(PAST_DAYS, 0, -1))
        past = {day: by_date[day] for day in days if day >= begin}
        so_far = sum(cost for day, cost in by_date.items() if day >= month)
        is_enough = len(past) >= FEWEST_DAYS
        outlook = look_ahead(past, today, left_of_today, so_far) if is_enough else None
        found.append(Projection(dict(group), month, so_far, len(past), outlook))
    return found


def look_ahead(past: Mapping[date, int], today: date, left_of_today: float, so_far: int) -> Outlook:
    """The outlook for the month of ``today`` from the costs of past days.

    A day to come is expected to cost the mean of its weekday. The band comes from how much the past
    days differ from these means; it is wider where the past is short.
    """
    step = 7 if len(past) >= _DAYS_FOR_WEEKDAYS else 1

    def usual(day: date) -> float:
        return fmean(cost for other, cost in past.items() if (day - other).days % step == 0)

    ahead, day = {today: left_of_today}, today + _DAY
    while day.month == today.month:
        ahead[day] = 1
        day += _DAY
    rest = sum(part * usual(day) for day, part in ahead.items())
    freedom = len(past) - step
    variance = sum((cost - usual(day)) ** 2 for day, cost in past.items()) / freedom
    days = sum(ahead.values())
    # Both the days to come and the means of the past ones vary. The second factor is the second
    # term of Student's t: the variance itself is a guess from few days.
    half = _Z * (1 + (_Z**2 + 1) / (4 * freedom)) * sqrt(variance * (days + days**2 / len(past)))
    return Outlook(
        *(so_far + round(part) for part in (rest, max(rest - half, min(rest, 0)), rest + half))
    )
