"""Agreement of several answers, and the points that they share."""

import json

import numpy as np
import pytest

from inference.orchestration.agreement import THRESHOLD, Vector, agree, points, sentences


def vector(cosine: float) -> Vector:
    """A unit vector with this cosine to ``vector(1)``."""
    return np.array([cosine, (1 - cosine**2) ** 0.5], dtype=np.float32)


def agree_nearly(*answers: str | None):
    """Agreement of open answers whose vectors are all equal."""
    return agree(answers, "open", vectors=[vector(1)] * len(answers))


def test_agree_json_compares_trees():
    found = agree(['{"a":1,"b":2}', '{"b":2,"a":1.0}', '{"a":"1"}'], "json", vectors=None)
    assert (found.method, found.groups, found.answered) == ("constrained", ((0, 1), (2,)), 3)
    assert found.score == pytest.approx(2 / 3)
    assert found.reason == ""


def test_agree_json_does_not_take_a_number_for_a_string():
    assert agree(['{"a":1}', '{"a":"1"}'], "json", vectors=None).score == 0.5


def test_agree_constrained_texts_that_are_no_json_are_equal_as_they_stand():
    found = agree(["positive", "negative ", "negative"], "json", vectors=None)
    assert found.groups == ((1, 2), (0,))


def test_agree_yes_and_no_are_a_tie_for_the_earlier_member():
    found = agree(["Yes, it is.", "Answer: No"], "yes_no", vectors=None)
    assert (found.score, found.method, found.leader) == (0.5, "extracted", 0)
    assert not found.is_unanimous


def test_agree_puts_the_largest_group_first():
    found = agree(["7", "It is 1,000.", "8", "1000.0", "8"], "number", vectors=None)
    assert found.groups == ((1, 3), (2, 4), (0,))
    assert (found.leader, found.score) == (1, 0.4)


def test_agree_counts_a_failed_member_as_asked():
    found = agree(["7", None, "7"], "number", vectors=None)
    assert (found.asked, found.answered, found.groups) == (3, 2, ((0, 2),))
    assert found.score == pytest.approx(2 / 3)
    assert not found.is_unanimous


def test_agree_takes_nothing_but_thoughts_for_a_failed_member():
    found = agree(["<think>long", "<think>long", "7"], "number", vectors=None)
    assert (found.answered, found.groups) == (1, ((2,),))


def test_agree_puts_answers_that_cannot_be_read_apart():
    found = agree(["I do not know.", "I do not know."], "number", vectors=None)
    assert (found.score, found.groups) == (0.5, ((0,), (1,)))


def test_agree_is_unanimous_when_all_that_were_asked_say_the_same():
    assert agree(["B", "The answer is B."], "choice", vectors=None).is_unanimous
    assert not agree(["B"], "choice", vectors=None).is_unanimous


@pytest.mark.parametrize(
    ("answers", "is_independent", "reason", "leader"),
    [
        (["7", "7"], False, "not_independent", 0),
        (["7"], True, "one_member", 0),
        (["7"], False, "one_member", 0),
        ([None, None], True, "no_answers", None),
        ([None, ""], False, "no_answers", None),
        ([], True, "one_member", None),
    ],
)
def test_agree_has_no_score_without_two_independent_members(
    answers: list[str | None], is_independent: bool, reason: str, leader: int | None
):
    found = agree(answers, "number", vectors=None, is_independent=is_independent)
    assert (found.score, found.reason, found.leader) == (None, reason, leader)


def test_agree_open_without_vectors_has_no_score_but_sees_equal_texts():
    found = agree(["It floats.", "Ice  sinks", "it floats"], "open", vectors=None)
    assert (found.score, found.method, found.reason) == (None, "none", "no_embedder")
    assert found.groups == ((0, 2), (1,))


def test_agree_open_needs_the_cosine():
    answers = ["Ice is lighter than water.", "Water weighs more than ice does."]
    near, far = vector(THRESHOLD + 0.01), vector(THRESHOLD - 0.01)
    assert agree(answers, "open", vectors=[vector(1), near]).score == 1.0
    assert agree(answers, "open", vectors=[vector(1), far]).score == 0.5
    assert agree(answers, "open", vectors=[vector(1), None]).score == 0.5
    assert agree([answers[0], None], "open", vectors=[vector(1), None]).groups == ((0,),)


def test_agree_open_groups_only_answers_that_all_agree():
    """The second is near to both, but the first and the third are far from each other."""
    answers = [
        "Ice is light.",
        "Frozen water has low weight.",
        "Its density is small, so it floats.",
    ]
    middle = np.array([1, 0], dtype=np.float32)
    sides = [np.array([0.9, y * 0.19**0.5], dtype=np.float32) for y in (1, -1)]
    found = agree(answers, "open", vectors=[sides[0], middle, sides[1]])
    assert (found.method, found.groups) == ("embedding", ((0, 1), (2,)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The mushroom is safe to eat.", "This mushroom is unsafe to eat."),
        ("It is safe.", "It is not safe."),
        ("Safe.", "Not safe."),
        ("You should do that.", "You shouldn't ever do that."),
        ("You may drink this now.", "Nobody may drink this now."),
        ("Take 5 mg of it.", "You take 50 mg of it."),
        ("Take 5 mg of it.", "You take 5 g of it."),
        ("In 1990 three ships sank.", "Four ships sank in 1990."),
        ("We meet on Monday.", "The meeting is on Friday."),
        ("The capital is Paris.", "Its capital city is London."),
        ("Use PostgreSQL.", "Do not use PostgreSQL."),
        ("Paris is the capital.", "London is the capital."),
        ("It gets hot.", "It gets cold."),
        ('He said "yes".\nTake it.', 'He said "yes".\nDo not take it.'),
        ("Yes. " + "Ice floats on water. " * 20, "No. " + "Ice swims in the lakes. " * 20),
        ("7 apples. " + "Ice floats on water. " * 20, "8 apples. " + "Ice swims in lakes. " * 20),
    ],
)
def test_agree_open_sees_a_contradiction_at_any_cosine(one: str, other: str):
    assert agree_nearly(one, other).score == 0.5
    assert agree_nearly(other, one).score == 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The capital is Paris.", "Paris is what the capital is called."),
        ("Take 1,000 mg of it daily.", "Daily, you take 1000.0 mg of it."),
        ("There are 3 ships.", "Ships: three in number."),
        ("1. Open it.\n2. Close it.", "You open it, then you close it."),
        ("You can't do that here.", "Here you cannot do such things."),
        ("Ice floats on water. " * 20, "No lake has ice on its ground. " * 20),
    ],
)
def test_agree_open_lets_other_words_say_the_same(one: str, other: str):
    assert agree_nearly(one, other).score == 1.0


def test_agreement_as_dict_is_json():
    found = agree(["7", "8", "7"], "number", vectors=None).as_dict()
    assert json.loads(json.dumps(found)) == {
        "score": 0.67,
        "method": "extracted",
        "asked": 3,
        "answered": 3,
        "groups": [[0, 2], [1]],
        "reason": "",
    }


def test_sentences_are_without_marks_of_lists():
    text = "<think>Hm.</think># Plan\n- Open it. Wait!\n2. Is it 3.5?\n\n```\n---\n"
    assert sentences(text) == ["Plan", "Open it.", "Wait!", "Is it 3.5?"]


def test_points_are_agreed_where_enough_of_those_asked_say_them():
    answers = ["Ice floats. It is cold.", "It is cold!\nice floats", "Ice floats.", None]
    assert points(answers, None, 0.7, 4) == (
        [{"text": "Ice floats.", "by": [0, 1, 2]}],
        [{"text": "It is cold.", "by": [0, 1]}],
        False,
    )
    agreed, flagged, _ = points(answers, None, 0.75, 4)
    assert (len(agreed), len(flagged)) == (1, 1)
    assert points(answers, None, 0.76, 4)[0] == []


def test_points_yes_and_no_are_both_flagged():
    agreed, flagged, _ = points(["Yes.", "No."], None, 0.7, 2)
    assert (agreed, [point["text"] for point in flagged]) == ([], ["Yes.", "No."])


def test_points_compare_sentences_by_their_vectors():
    answers = ["Ice is lighter than water. It melts.", "Water weighs more than ice does."]
    vectors = {
        "Ice is lighter than water.": vector(1),
        "Water weighs more than ice does.": vector(0.9),
    }
    agreed, flagged, _ = points(answers, vectors, 1.0, 2)
    assert agreed == [{"text": "Ice is lighter than water.", "by": [0, 1]}]
    assert flagged == [{"text": "It melts.", "by": [0]}]


def test_points_count_a_member_once():
    assert points(["Ice floats. Ice floats.", None], None, 0.5, 2)[0] == [
        {"text": "Ice floats.", "by": [0]}
    ]


def test_points_tell_that_a_long_answer_was_cut():
    long = " ".join(f"Fact {number}." for number in range(13))
    agreed, flagged, truncated = points([long], None, 0.7, 2)
    assert (agreed, len(flagged), truncated) == ([], 12, True)


def test_points_of_failed_members_are_none():
    assert points([None, None], None, 0.7, 2) == ([], [], False)
