"""Spans of time as clients write them."""

import pytest

from inference.errors import InvalidRequestError
from inference.orders.durations import seconds_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0),
        (300, 300),
        (1.5, 1.5),
        (-1, -1),
        (-5, -1),
        ("0", 0),
        ("90", 90),
        ("-1", -1),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("-1s", -1),
    ],
)
def test_duration_in_seconds(value: float | str, seconds: float) -> None:
    assert seconds_of(value, "keep_alive") == seconds


@pytest.mark.parametrize(
    "value", ["", "5 m", "m", "5d", "1e3", "abc", "--1", "1.2.3s", 1e9, "9000h", float("inf")]
)
def test_duration_that_is_invalid_is_refused(value: float | str) -> None:
    with pytest.raises(InvalidRequestError, match="not a duration") as refused:
        seconds_of(value, "keep_alive")
    assert refused.value.param == "keep_alive"
