import pytest

from inference_site.tools.bench.distribution import distribution, percentile


def test_percentile_interpolates_between_closest_ranks():
    values = [1.0, 2.0, 3.0, 4.0]
    assert percentile(values, 0) == 1.0
    assert percentile(values, 50) == 2.5
    assert percentile(values, 90) == pytest.approx(3.7)
    assert percentile(values, 100) == 4.0


def test_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 99) == 7.0


def test_percentile_refuses_no_values_and_impossible_ranks():
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], 101)


def test_distribution_sorts_and_describes():
    found = distribution([3.0, 1.0, 2.0])
    assert found is not None
    assert (found.count, found.mean, found.minimum, found.maximum) == (3, 2.0, 1.0, 3.0)
    assert found.p50 == 2.0


def test_distribution_of_nothing_is_none():
    assert distribution([]) is None
