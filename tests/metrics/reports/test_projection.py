"""The cost of the month at its end."""

from datetime import date, timedelta

import numpy as np
import pytest

from metrics.reports.projection import PAST_DAYS, look_ahead, projections
from metrics.visibility import Visibility
from tests.metrics.reports.totals import add, moment, query

pytestmark = pytest.mark.django_db
CENT = 10_000_000


def use(day: str, days: int, cost: int = CENT, **fields: object) -> None:
    """A cost at 06:00 and another at 18:00 of each day."""
    for number in range(days):
        at = moment(day) + timedelta(days=number)
        for hour in (6, 18):
            slot = (at + timedelta(hours=hour)).isoformat()[:16]
            add(slot, cost_nano=cost, **fields)


def test_projection_takes_the_rest_of_today_by_the_usual_day() -> None:
    use("2026-10-01", 45)
    add("2026-11-15T06:00", cost_nano=CENT)
    (found,) = projections(query(now="2026-11-15T12:00"))
    assert (found.month, found.days) == (date(2026, 11, 1), PAST_DAYS)
    assert found.so_far_nano == 29 * CENT
    # Half of today and 15 days are to come.
    assert found.outlook is not None
    assert found.outlook.expected == found.outlook.low == found.outlook.high == 60 * CENT
    assert found.figures() == {
        "month": "2026-11",
        "month_so_far": "0.290000000",
        "month_projected": "0.600000000",
        "month_projected_low": "0.600000000",
        "month_projected_high": "0.600000000",
        "days_of_data": 28,
        "note": "",
    }


def test_projection_knows_weekends_and_has_a_band() -> None:
    random = np.random.default_rng(1)
    today = date(2026, 11, 10)
    days = [today - timedelta(days=number) for number in range(PAST_DAYS, 0, -1)]
    past = {
        day: round((1 if day.weekday() > 4 else 100) * random.uniform(8000, 12000)) for day in days
    }
    found = look_ahead(past, today, 0.5, 7_000_000)
    # Half of today, 14 working days and 6 days of weekends.
    assert found.expected == pytest.approx(7_000_000 + 500_000 + 14_060_000, rel=0.05)
    assert found.low < found.expected < found.high
    assert found.high - found.low < 0.1 * found.expected
    assert look_ahead(past, today, 0.5, 7_000_000) == found


@pytest.mark.parametrize("past_days", [4, 10, PAST_DAYS])
def test_projection_band_holds_most_of_the_months(past_days: int) -> None:
    random = np.random.default_rng(2)
    today = date(2026, 11, 10)
    days = [today - timedelta(days=number) for number in range(past_days, 0, -1)]
    within = 0
    for _ in range(100):
        costs = [round(cost) for cost in random.lognormal(10, 0.7, past_days + 21)]
        found = look_ahead(dict(zip(days, costs, strict=False)), today, 0.5, 0)
        true = costs[past_days] / 2 + sum(costs[past_days + 1 :])
        within += found.low <= true <= found.high
    assert within >= 65


@pytest.mark.parametrize(("days", "enough"), [(1, False), (3, False), (4, True)])
def test_projection_needs_three_whole_days(days: int, enough: bool) -> None:
    use((moment("2026-11-15") - timedelta(days=days)).isoformat()[:10], days)
    (found,) = projections(query(now="2026-11-15T12:00"))
    # The first day of use is no whole day.
    assert (found.days, found.outlook is not None) == (days - 1, enough)
    assert found.so_far_nano == 2 * days * CENT
    assert found.figures()["note"] == ("" if enough else "too little data")


def test_projection_of_nothing_says_too_little_data() -> None:
    (found,) = projections(query())
    assert (found.so_far_nano, found.days, found.outlook) == (0, 0, None)


def test_projection_is_made_for_each_group_that_is_visible() -> None:
    use("2026-11-01", 14, team_id=1, key_id=10)
    use("2026-11-12", 3, CENT * 2, team_id=2, key_id=20, user_id=2)
    asked = {"now": "2026-11-15T12:00", "group": "team,key"}
    total, first, second = projections(query(**asked))
    assert (total.group, total.so_far_nano) == ({}, 40 * CENT)
    assert (first.group["team_id"], first.group["key"], first.days) == (1, "#10", 13)
    assert (second.so_far_nano, second.days, second.outlook) == (12 * CENT, 2, None)
    own = Visibility(users=frozenset({2}))
    assert [one.so_far_nano for one in projections(query(**asked, visible=own))] == [12 * CENT] * 2
    assert projections(query(now="2026-11-15T12:00", filter="key:10"))[0].so_far_nano == 28 * CENT


def test_projection_includes_corrections_and_days_of_the_zone() -> None:
    add("2026-10-31T22:45", cost_nano=CENT)
    add("2026-10-31T23:00", cost_nano=CENT, correction_nano=-3)
    (found,) = projections(query(now="2026-11-15T12:00", tz="Europe/Berlin"))
    assert found.so_far_nano == CENT - 3
