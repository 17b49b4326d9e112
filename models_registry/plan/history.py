"""Past requests, and the probability of one for a version soon: pure.

Hours and minutes with requests are counted, not requests: a burst of a hundred says no more about
tomorrow than a single one.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

# How far a prediction looks ahead.
HORIZON_SECONDS: Final = 1800.0
# Older requests are dropped; with the half-life they would hardly count.
DAYS: Final = 21
RHYTHM_HALF_LIFE_DAYS: Final = 7.0
RECENT_HALF_LIFE_SECONDS: Final = 900.0
# The weight of the priors, as time without observations: two days, or two minutes, of requests make
# a habit, one does not.
_PRIOR_DAYS: Final = 0.5
_PRIOR_SECONDS: Final = 1800.0
_RECENT_SECONDS: Final = 8 * RECENT_HALF_LIFE_SECONDS
_HOUR, _MINUTE = 3600, 60
_HOURS_OF_DAY = 24


@dataclass(frozen=True)
class Arrivals:
    """Requests of one service type for one version that came within one hour or less."""

    service: str
    version: str
    first_at: float  # Unix seconds
    requests: int


@dataclass
class _Series:
    hours: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # requests by hour
    minutes: set[int] = field(default_factory=set)  # with any request

    def requests_of_day_before(self, hour: int) -> int:
        return sum(self.hours.get(hour - back, 0) for back in range(1, _HOURS_OF_DAY + 1))


class History:
    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = defaultdict(_Series)

    def add(self, arrivals: Iterable[Arrivals]) -> None:
        """Count requests, in any order, each once."""
        for one in arrivals:
            series = self._series[one.service, one.version]
            series.hours[int(one.first_at // _HOUR)] += one.requests
            series.minutes.add(int(one.first_at // _MINUTE))

    def forget(self, now: float) -> None:
        """Drop requests too old to count at ``now`` (Unix seconds)."""
        oldest_hour = int(now // _HOUR) - DAYS * _HOURS_OF_DAY
        oldest_minute = int((now - _RECENT_SECONDS) // _MINUTE)
        for key, series in list(self._series.items()):
            for hour in [hour for hour in series.hours if hour < oldest_hour]:
                del series.hours[hour]
            series.minutes = {minute for minute in series.minutes if minute >= oldest_minute}
            if not series.hours:
                del self._series[key]

    def probabilities(self, now: float) -> dict[str, float]:
        """Probability of a request within the horizon after ``now`` (Unix seconds), by version."""
        none: dict[str, float] = defaultdict(lambda: 1.0)
        for (service, version), series in self._series.items():
            none[version] *= self._none_by_rhythm(service, series, now)
            none[version] *= _none_by_rate(series, now)
        return {version: 1.0 - chance for version, chance in none.items()}

    def _none_by_rhythm(self, service: str, series: _Series, now: float) -> float:
        """The probability of no request, from the same hours of other days.

        An hour's probability is spread evenly over it: half an hour has its square root.
        """
        chance, at = 1.0, now
        while at < now + HORIZON_SECONDS:
            hour = int(at // _HOUR)
            ends = min((hour + 1) * _HOUR, now + HORIZON_SECONDS)
            chance *= (1.0 - self._hour_chance(service, series, hour)) ** ((ends - at) / _HOUR)
            at = ends
        return chance

    def _hour_chance(self, service: str, series: _Series, hour: int) -> float:
        """The probability of a request in an hour.

        Its prior is that of the other versions of the service type, times the version's share of
        the last day's requests.
        """
        siblings = [one for (kind, _), one in self._series.items() if kind == service]
        others = (one.hours for one in siblings if one is not series)
        of_others = _share_of_days(set[int]().union(*others), hour, 0.0)
        requests = sum(one.requests_of_day_before(hour) for one in siblings)
        share = series.requests_of_day_before(hour) / requests if requests else 0.0
        return _share_of_days(series.hours.keys(), hour, of_others * share)


def _share_of_days(hours: Collection[int], hour: int, expected: float) -> float:
    """The share of earlier days that had requests at this hour of the day.

    This is the mean of a Beta-Bernoulli posterior whose prior has the mean ``expected``; a day's
    weight halves every week. Days before the first request are unknown, not empty.
    """
    oldest = min(hours, default=hour)
    with_any, days = 0.0, 0.0
    for day in range(1, DAYS + 1):
        then = hour - day * _HOURS_OF_DAY
        if then < oldest:
            break
        weight = math.exp2(-(day - 1) / RHYTHM_HALF_LIFE_DAYS)
        days += weight
        with_any += weight * (then in hours)
    return (with_any + _PRIOR_DAYS * expected) / (days + _PRIOR_DAYS)


def _none_by_rate(series: _Series, now: float) -> float:
    """The probability of no request, from the last minutes.

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
