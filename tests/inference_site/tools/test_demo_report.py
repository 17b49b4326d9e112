"""The report of the demonstration of swaps."""

from dataclasses import replace
from typing import Any

import pytest

from inference_site.tools.demo.report import EXIT_SECONDS, Report, WaitLimits, make_report
from inference_site.tools.demo.traffic import Outcome

LIMITS = WaitLimits(maximum_wait_seconds=8.0, minimum_dwell_seconds=4.0, lease_seconds=5.0)
FINE = Outcome("a", 2, wait_seconds=1.0, total_seconds=3.0, saw_loading=True, error="")


def report(*outcomes: Outcome, **fields: Any) -> Report:
    """A report of a run in which one model was swapped out for another."""
    usual: dict[str, Any] = {
        "seconds": 40.0,
        "loads": {"a@1": [2.0, 4.0], "b@1": [3.0], "e@f16": [1.0]},
        "evictions": {"a@1": 1},
        "breaches": [],
        "kills": [],
        "budget_bytes": 100,
        "peak_set_aside_bytes": 90,
        "peak_used_bytes": 80,
        "limits": LIMITS,
        "embedding_model": "e",
    }
    return make_report(outcomes, **(usual | fields))


def test_report_passes_when_all_held() -> None:
    assert report(FINE, replace(FINE, model="b")).passed


@pytest.mark.parametrize(
    ("outcome", "fields"),
    [
        (replace(FINE, error="503: full"), {}),
        (FINE, {"breaches": ["101 bytes used of 100"]}),
        (FINE, {"evictions": {}}),
        (replace(FINE, wait_seconds=60.0, total_seconds=61.0), {}),
    ],
    ids=["failure", "breach", "no-swap", "endless-wait"],
)
def test_report_fails_when_something_did_not(outcome: Outcome, fields: dict[str, Any]) -> None:
    assert not report(outcome, **fields).passed


def test_report_counts_loads_and_swaps_of_each_model() -> None:
    shown = report(FINE, replace(FINE, model="b"), replace(FINE, model="e"))
    rows = [(row.name, row.loads, row.swapped_out) for row in shown.swaps_by_model]
    assert rows == [("a", 2, 1), ("b", 1, 0), ("e", 1, 0)]
    assert (shown.swaps, shown.loads, shown.embedding_loads) == (1, 4, 1)
    first = shown.swaps_by_model[0]
    assert (first.median_load_seconds, first.longest_load_seconds) == (3.0, 4.0)
    assert len(shown.swap_table().rows) == 3


def test_report_bounds_the_wait_by_a_turn_for_each_model_and_the_deaths() -> None:
    outcomes = (FINE, replace(FINE, model="b"))
    turn = 8.0 + 2.0 + EXIT_SECONDS + 4.0
    assert report(*outcomes).wait_limit_seconds == 2 * turn
    killed = report(*outcomes, kills=["a@1 (loading)"])
    assert killed.wait_limit_seconds == 2 * turn + 5.0 + 4.0
