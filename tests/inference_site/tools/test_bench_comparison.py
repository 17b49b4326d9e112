from dataclasses import replace

import pytest

from inference_site.tools.bench.comparison import compare, peer_goes_first
from inference_site.tools.bench.distribution import distribution
from inference_site.tools.bench.load import Load
from inference_site.tools.bench.runner import RunResult
from inference_site.tools.bench.summary import summarise


def summary(rate, ttft=None):
    empty = summarise("x", Load(), RunResult([]))
    times = distribution([ttft]) if ttft is not None else None
    return replace(empty, output_tokens_per_second=rate, ttft_seconds=times)


def compared(pairs):
    return {item.label: item for item in compare(pairs)}


def test_order_changes_with_each_pair():
    assert [peer_goes_first(pair) for pair in range(4)] == [False, True, False, True]


def test_ratio_is_the_median_of_the_ratios_and_not_the_ratio_of_medians():
    # Ratios 0.5, 2, 3: median 2, though the medians (20 and 20) have the ratio 1.
    pairs = [(summary(10.0), summary(20.0)), (summary(20.0), summary(10.0))]
    pairs.append((summary(90.0), summary(30.0)))
    found = compared(pairs)["output tok/s"]
    assert (found.ours_median, found.peer_median) == (20.0, 20.0)
    assert (found.ratio_median, found.ratio_minimum, found.ratio_maximum) == (2.0, 0.5, 3.0)
    assert found.pairs == 3


def test_times_are_compared_as_ours_by_the_peers():
    found = compared([(summary(1.0, 0.5), summary(1.0, 2.0))])["TTFT p50"]
    assert found.ratio_median == pytest.approx(0.25)


def test_figures_that_no_pair_has_are_left_out():
    found = compared([(summary(1.0, 0.5), summary(1.0)), (summary(1.0), summary(1.0, 0.5))])
    assert "TTFT p50" not in found
    assert "output tok/s" in found


def test_pair_without_output_counts_in_no_ratio():
    found = compared([(summary(0.0), summary(5.0)), (summary(6.0), summary(5.0))])
    assert found["output tok/s"].pairs == 1
