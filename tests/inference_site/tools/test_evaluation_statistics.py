import pytest

from inference_site.tools.evaluation.statistics import Paired, holm, paired, verdict


@pytest.mark.parametrize(
    ("wins", "losses", "p_value"), [(6, 1, 0.125), (0, 0, 1.0), (5, 5, 1.0), (0, 6, 0.03125)]
)
def test_statistics_test_of_mcnemar_is_exact(wins: int, losses: int, p_value: float):
    assert Paired(20, wins, losses).p_value == pytest.approx(p_value)


def test_statistics_pair_only_items_that_both_have():
    ours = {"a": True, "b": True, "c": False, "d": True}
    theirs = {"a": True, "b": False, "c": True, "e": True}
    assert paired(ours, theirs) == (3, 1, 1)
    assert Paired(4, 2, 1).points == 25
    assert paired({}, theirs).points == 0


def test_statistics_correct_by_holm():
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.9})
    assert found == pytest.approx({"b": 0.04, "c": 0.09, "a": 0.09, "d": 0.9})


@pytest.mark.parametrize(
    ("p_value", "single", "vote", "said"),
    [
        (0.01, Paired(50, 20, 2), Paired(50, 5, 2), "pays"),
        (0.01, Paired(50, 20, 2), Paired(50, 5, 5), "not shown"),
        (0.05, Paired(50, 20, 2), Paired(50, 5, 2), "not shown"),
        (0.01, Paired(50, 2, 20), Paired(50, 5, 2), "costs"),
        (0.30, Paired(50, 2, 4), Paired(50, 5, 2), "not shown"),
    ],
)
def test_statistics_verdict(p_value: float, single: Paired, vote: Paired, said: str):
    assert verdict(p_value, single, vote) == said
