"""Costs are exact, rounded once, and the same in Python and SQL."""

from fractions import Fraction

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.ledger.cost import COST_SQL, Rates, cost_nano

DOLLAR = 10**9
tokens = st.integers(0, 2**31 - 1)
rate = st.integers(0, 10**15) | st.integers(0, 3)


@pytest.mark.parametrize(
    ("rates", "amounts", "cost"),
    [
        (Rates(0, 0, 0, 0), (1000, 0, 1000, 10**9), 0),
        (Rates(DOLLAR, DOLLAR, 2 * DOLLAR, 0), (1_000_000, 0, 500_000, 0), 2 * DOLLAR),
        (Rates(DOLLAR, DOLLAR // 10, 0, 0), (1_000_000, 900_000, 0, 0), DOLLAR * 19 // 100),
        (Rates(0, 0, 0, 2 * DOLLAR), (9, 0, 9, 1_800_000_000), DOLLAR),
        # Each part alone is below half a billionth; together they are more.
        (Rates(200_000, 0, 200_000, 720), (1, 0, 1, 1_000_000), 1),
        (Rates(500_000, 0, 0, 0), (1, 0, 0, 0), 1),
        (Rates(499_999, 0, 0, 0), (1, 0, 0, 0), 0),
        (Rates(1_500_000, 0, 0, 0), (1, 0, 0, 0), 2),
    ],
)
def test_cost_is_the_sum_of_all_parts_rounded_half_up_once(
    rates: Rates, amounts: tuple[int, int, int, int], cost: int
) -> None:
    assert cost_nano(rates, *amounts) == cost


@pytest.mark.django_db
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rates=st.builds(Rates, rate, rate, rate, rate),
    prompt=tokens,
    uncached=st.integers(0, 2**20),
    completion=tokens,
    device_us=st.integers(0, 10**12),
)
def test_cost_in_sql_is_the_cost_in_python(
    rates: Rates, prompt: int, uncached: int, completion: int, device_us: int
) -> None:
    cached = max(0, prompt - uncached)
    amounts = (prompt, cached, completion, device_us)
    expected = cost_nano(rates, *amounts)
    exact = (
        Fraction((prompt - cached) * rates.prompt, 10**6)
        + Fraction(cached * rates.cached, 10**6)
        + Fraction(completion * rates.completion, 10**6)
        + Fraction(device_us * rates.device_hour, 3_600 * 10**6)
    )
    assert Fraction(-1, 2) <= exact - expected < Fraction(1, 2)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {COST_SQL} FROM (VALUES (%s::int, %s::int, %s::int, %s::bigint)) AS "
            "r (prompt_tokens, cached_tokens, completion_tokens, device_us), "
            "(VALUES (%s::bigint, %s::bigint, %s::bigint, %s::bigint)) AS "
            "p (prompt, cached, completion, device_hour)",
            [*amounts, *rates],
        )
        assert cursor.fetchone() == (expected,)
