"""What requests have come, and how likely that makes one for a version soon: pure.

Counted are hours and minutes in which a version was asked for, not requests: a burst of a hundred
says no more of tomorrow than a single one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

HORIZON_SECONDS: Final = 1800.0
"""How far a prediction looks ahead."""
DAYS: Final = 21
"""What is older is forgotten; with the half-life it would hardly count."""
RHYTHM_HALF_LIFE_DAYS: Final = 7.0
RECENT_HALF_LIFE_SECONDS: Final = 900.0
# Half a day and half an hour for which nothing is known either way: two days, or two minutes, of
# requests make a habit, one does not.
_PRIOR_DAYS: Final = 0.5
_PRIOR_SECONDS: Final = 1800.0
_RECENT_SECONDS: Final = 8 * RECENT_HALF_LIFE_SECONDS
_HOUR, _MINUTE = 3600, 60
_HOURS_OF_DAY = 24


@dataclass(frozen=True)
class Arrivals:
    """Requests of one service type for one version that came within one hour or less.

    ``first_at`` is when the first of them came, in Unix seconds.
    """

    service: str
    version: str
    first_at: float
    requests: int


@dataclass
class _Series:
    """One service type and version: requests by hour, and the minutes that had any."""

    hours: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    minutes: set[int] = field(default_factory=set)

    def day(self, hour: int) -> int:
        """Requests of the 24 hours before ``hour``."""
        return sum(self.hours.get(hour - back, 0) for back in range(1, _HOURS_OF_DAY + 1))


class History:
    """Requests by service type, version and hour, of the last weeks."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = defaultdict(_Series)

    def add(self, arrivals: Iterable[Arrivals]) -> None:
        """Take note of requests, in any order; each may be told only once."""
        for one in arrivals:
            series = self._series[one.service, one.version]
            series.hours[int(one.first_at // _HOUR)] += one.requests
            series.minutes.add(int(one.first_at // _MINUTE))

    def forget(self, now: float) -> None:
        """Drop what no longer counts at ``now`` (Unix seconds)."""
        oldest_hour = int(now // _HOUR) - DAYS * _HOURS_OF_DAY
        oldest_minute = int((now - _RECENT_SECONDS) // _MINUTE)
        for key, series in list(self._series.items()):
            for hour in [hour for hour in series.hours if hour < oldest_hour]:
                del series.hours[hour]
            series.minutes = {minute for minute in series.minutes if minute >= oldest_minute}
            if not series.hours:
                del self._series[key]

    def probabilities(self, now: float) -> dict[str, float]:
        """How likely each version is to be asked for within ``HORIZON_SECONDS``.

        Args:
            now: Unix seconds.
        """
        none: dict[str, float] = defaultdict(lambda: 1.0)
        for (service, version), series in self._series.items():
            none[version] *= self._none_by_rhythm(service, series, now)
            none[version] *= _none_by_rate(series, now)
        return {version: 1.0 - chance for version, chance in none.items()}

    def _none_by_rhythm(self, service: str, series: _Series, now: float) -> float:
        """The chance of no request, from the same hours of other days.

        An hour's chance is spread evenly over it: half an hour of it has the square root.
        """
        chance, at = 1.0, now
        while at < now + HORIZON_SECONDS:
            hour = int(at // _HOUR)
            ends = min((hour + 1) * _HOUR, now + HORIZON_SECONDS)
            chance *= (1.0 - self._hour_chance(service, series, hour)) ** ((ends - at) / _HOUR)
            at = ends
        return chance

    def _hour_chance(self, service: str, series: _Series, hour: int) -> float:
        """The chance of a request in an hour; days count by half as much each seven days.

        A version with little history is expected to have its share, by the last day, of what the
        others of its service type have at that hour.
        """
        siblings = [one for (kind, _), one in self._series.items() if kind == service]
        others = (one.hours for one in siblings if one is not series)
        of_others = _share_of_days(set[int]().union(*others), hour, 0.0)
        requests = sum(one.day(hour) for one in siblings)
        share = series.day(hour) / requests if requests else 0.0
        return _share_of_days(series.hours.keys(), hour, of_others * share)


def _share_of_days(hours: Iterable[int], hour: int, expected: float) -> float:
    """On which share of earlier days there were requests at this hour of the day.

    The mean of a Beta-Bernoulli posterior whose prior has the mean ``expected``. Days before the
    first request are unknown, not empty.
    """
    known = set(hours)
    oldest = min(known, default=hour)
    with_any, days = 0.0, 0.0
    for day in range(1, DAYS + 1):
        then = hour - day * _HOURS_OF_DAY
        if then < oldest:
            break
        weight = math.exp2(-(day - 1) / RHYTHM_HALF_LIFE_DAYS)
        days += weight
        with_any += weight * (then in known)
    return (with_any + _PRIOR_DAYS * expected) / (days + _PRIOR_DAYS)


def _none_by_rate(series: _Series, now: float) -> float:
    """The chance of no request, from the last minutes.

    Gamma-Poisson: after n events in a time t none come in a time h with (t / (t + h))^n. Events
    lose half their weight in each half-life, and t is the sum of those weights over all time.
    """
    events = sum(
        math.exp2(-max(0.0, now - minute * _MINUTE) / RECENT_HALF_LIFE_SECONDS)
        for minute in series.minutes
        if minute * _MINUTE <= now
    )
    seen_seconds = RECENT_HALF_LIFE_SECONDS / math.log(2) + _PRIOR_SECONDS
    return float((seen_seconds / (seen_seconds + HORIZON_SECONDS)) ** events)
