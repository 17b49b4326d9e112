"""Money is whole billionths of a US dollar, rounded once per request."""

from typing import Final, NamedTuple

# Rates are for a million tokens or for an hour of 3.6e9 microseconds: the common denominator.
_UNIT: Final = 3_600_000_000
_TOKEN: Final = 3_600


class Rates(NamedTuple):
    """Billionths of a US dollar per million tokens, and per hour on a device."""

    prompt: int
    cached: int
    completion: int
    device_hour: int


def cost_nano(
    rates: Rates, prompt_tokens: int, cached_tokens: int, completion_tokens: int, device_us: int
) -> int:
    """The cost of a request, rounded half up; cached tokens are a part of the prompt's."""
    exact = (
        (prompt_tokens - cached_tokens) * rates.prompt * _TOKEN
        + cached_tokens * rates.cached * _TOKEN
        + completion_tokens * rates.completion * _TOKEN
        + device_us * rates.device_hour
    )
    return (2 * exact + _UNIT) // (2 * _UNIT)


# The same in SQL, for a record ``r`` and rates ``p``.
COST_SQL: Final = f"""
    div(2 * (
        (r.prompt_tokens - r.cached_tokens)::numeric * p.prompt * {_TOKEN}
        + r.cached_tokens::numeric * p.cached * {_TOKEN}
        + r.completion_tokens::numeric * p.completion * {_TOKEN}
        + r.device_us::numeric * p.device_hour
    ) + {_UNIT}, 2 * {_UNIT}::numeric)::bigint
"""
