"""Demand as it is foreseen from what came: rhythm, rate, service types, forgetting."""

import pytest

from models_registry.plan.history import HORIZON_SECONDS, Arrivals, History
from models_registry.plan.prediction import LIKELY

HOUR, DAY = 3600.0, 86_400.0
# Some midnight.
MIDNIGHT = 20_000 * DAY


def asked(day: float, hour: float, version: str = "m@v", service: str = "chat") -> Arrivals:
    """A request so many days after the first one."""
    return Arrivals(service, version, MIDNIGHT + day * DAY + hour * HOUR, 1)


def history(*arrivals: Arrivals) -> History:
    found = History()
    found.add(arrivals)
    return found


def chance(found: History, day: float, hour: float, version: str = "m@v") -> float:
    return found.probabilities(MIDNIGHT + day * DAY + hour * HOUR).get(version, 0.0)


def test_history_learns_a_daily_rhythm() -> None:
    found = history(*(asked(day, 9.3) for day in range(7)))
    assert chance(found, 7, 9.0) >= LIKELY
    assert chance(found, 7, 8.9) >= LIKELY
    for hour in (0, 3, 8, 10.1, 15, 21):
        assert chance(found, 7, hour) < 0.05


def test_history_takes_one_day_for_no_rhythm() -> None:
    assert chance(history(asked(0, 9.3)), 1, 9.0) < LIKELY


def test_history_of_a_burst_counts_once() -> None:
    burst = Arrivals("chat", "m@v", MIDNIGHT + 9.3 * HOUR, 1000)
    assert chance(history(burst), 3, 9.0) == chance(history(asked(0, 9.3)), 3, 9.0)


def test_history_days_without_requests_unlearn_a_rhythm() -> None:
    days = [asked(day, 9.3) for day in range(7)]
    # Another hour shows that somebody was there to ask.
    found = history(*days, *(asked(day, 20) for day in range(14)))
    chances = [chance(found, day, 9.0) for day in range(7, 15)]
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < LIKELY < chances[0]


def test_history_newer_days_count_more() -> None:
    before = [asked(day, 20) for day in range(14)]
    early = history(*before, *(asked(day, 9.3) for day in range(7)))
    late = history(*before, *(asked(day, 9.3) for day in range(7, 14)))
    assert chance(late, 14, 9.0) > chance(early, 14, 9.0) + 0.2


def test_history_recent_requests_make_another_likely_and_wear_off() -> None:
    found = history(*(asked(0, 12 + minute / 60) for minute in range(5)))
    soon = [chance(found, 0, 12.1 + later / 4) for later in range(5)]
    assert soon[0] >= LIKELY
    assert soon == sorted(soon, reverse=True)
    assert soon[-1] < 0.2
    assert chance(history(asked(0, 12)), 0, 12.01) < LIKELY


def test_history_requests_of_several_services_add_up() -> None:
    one = history(*(asked(day, 9.3) for day in range(2)))
    two = history(
        *(asked(day, 9.3) for day in range(2)),
        *(asked(day, 9.3, service="embedding") for day in range(2)),
    )
    assert chance(two, 2, 9.0) > chance(one, 2, 9.0)


def test_history_a_new_version_takes_over_the_rhythm_of_its_service() -> None:
    old = [asked(day, 9.3) for day in range(10)]
    swapped = [asked(9, hour, "m@w") for hour in range(10, 24)]
    found = history(*old, *swapped)
    assert chance(found, 10, 9.2, "m@w") > LIKELY
    other_service = history(
        *old, *(asked(9, hour, "m@w", service="embedding") for hour in range(10, 24))
    )
    assert chance(other_service, 10, 9.2, "m@w") < LIKELY


def test_history_forgets_old_requests() -> None:
    found = history(asked(0, 9.3))
    found.forget(MIDNIGHT + 20 * DAY)
    assert found.probabilities(MIDNIGHT + 20 * DAY).keys() == {"m@v"}
    found.forget(MIDNIGHT + 23 * DAY)
    assert found.probabilities(MIDNIGHT + 23 * DAY) == {}


def test_history_is_the_same_in_whatever_order_it_is_told() -> None:
    arrivals = [asked(day, hour) for day in range(5) for hour in (9.3, 9.9, 14)]
    one, other = history(*arrivals), history(*reversed(arrivals))
    now = MIDNIGHT + 5 * DAY + 9 * HOUR
    assert one.probabilities(now) == other.probabilities(now)


@pytest.mark.parametrize("hour", [0, 8.7, 9, 9.5, 23.9])
def test_history_probabilities_are_probabilities(hour: float) -> None:
    found = history(*(asked(day, quarter / 4) for day in range(21) for quarter in range(96)))
    assert 0.0 <= chance(found, 21, hour) <= 1.0
    assert HORIZON_SECONDS < HOUR
