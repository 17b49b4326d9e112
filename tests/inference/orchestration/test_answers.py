"""Kinds of answers, and short answers read out of texts."""

import pytest

from inference.orchestration.answers import answer_kind, extracted, shown


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many legs have 3 spiders?", "number"),
        ("What is 17 + 25?", "number"),
        ("Compute (3 - 1) * 7.", "number"),
        ("State the final answer to the following arithmetic problem: 4 + 3 - 9 =", "number"),
        ("How far is the Moon?", "open"),
        ("How much does it cost?", "open"),
        ("Explain how many lives a cat has.", "open"),
        ("How many are there? Which are red?", "open"),
        ("Write 3-4 sentences on rivers.", "open"),
        ("What happened on 12/5/2020?", "open"),
        ("Is Paris the capital of France?", "yes_no"),
        ("Ann is taller than Bob. Is Bob shorter than Ann?", "yes_no"),
        ("Answer yes or no: may glass burn?", "yes_no"),
        ("True or false: ice floats.", "yes_no"),
        ("Is it red or blue?", "open"),
        ("Do you know a recipe for bread?", "open"),
        ("Is there a way to sort a list?", "open"),
        ("Can you write a poem?", "open"),
        ("Which floats?\nA) ice\nB) iron\nC) lead", "choice"),
        ("Choose the metal. A) ice B) iron", "choice"),
        ("Which is a metal?\n(A) ice\n(B) iron", "choice"),
        ("Which?\nA. ice\nB. iron", "choice"),
        ("Tell me of J. A. Smith and B. Jones.", "open"),
        ("Tell me about rivers.", "open"),
        ("How many words are here? " + "word " * 500, "open"),
        ("", "open"),
    ],
)
def test_answer_kind_is_open_unless_the_question_is_clear(question: str, kind: str):
    assert answer_kind(question, is_constrained=False) == kind


def test_answer_kind_of_a_constrained_answer_is_json():
    assert answer_kind("How many?", is_constrained=True) == "json"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("There are 1,000 of them.", "1000"),
        ("It is 42.", "42"),
        ("1.0", "1"),
        ("0.50", "0.5"),
        ("So \\boxed{\\frac{1}{2}} of 9", "0.5"),
        ("The half is 1/2", "0.5"),
        ("3 + 4 = 7", "7"),
        ("5-3", "3"),
        ("It is -0", "0"),
        ("It is \u22125 degrees", "-5"),
        ("\\boxed{1{,}200} or 7", "1200"),
        ("Answer: 12 apples\nI checked 3 times.", "12"),
        ("**Final answer:** **12**\n7", "12"),
        ("There are three.", "3"),
        ("No one knows.", None),
        ("H2O", None),
        ("5/0", "5/0"),
        ("1e5", "100000"),
        ("9" * 40 + "1", "9" * 40 + "1"),
        ("<think>it is 4</think>It is 5", "5"),
        ("<think>it is 4", None),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_extracted_number_is_normalised(text: str, answer: str | None):
    assert extracted(text, "number") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("B", "b"),
        ("(b)", "b"),
        ("**B) iron**", "b"),
        ("Iron is a metal.\nAnswer: B", "b"),
        ("The answer is (C), not A.", "c"),
        ("\\boxed{D}", "d"),
        ("A) floats and so\nB)", None),
        ("Option A is wrong, option B is right.", None),
        ("Answer: B iron", "b"),
        ("An iron bar.", None),
    ],
)
def test_extracted_choice_is_one_letter(text: str, answer: str | None):
    assert extracted(text, "choice") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("YES!", "yes"),
        ("No, it is not.", "no"),
        ("False.", "no"),
        ("Ice is light.\nAnswer: Yes", "yes"),
        ("Ice is light.\nYes, it floats.", "yes"),
        ("I think the answer is **no**.", "no"),
        ("Yes, perhaps.\nNo, surely not.", None),
        ("There is no doubt.", None),
        ("Nobody knows.", None),
    ],
)
def test_extracted_verdict_is_yes_or_no(text: str, answer: str | None):
    assert extracted(text, "yes_no") == answer


def test_extracted_json_is_canonical():
    assert extracted('{"a": 1, "b": [2, null]}', "json") == '{"a":1,"b":[2,null]}'
    assert extracted('{"b": [2.0, null], "a": 1e0}', "json") == '{"a":1,"b":[2,null]}'
    assert extracted('{"a": "1"}', "json") != extracted('{"a": 1}', "json")
    assert extracted("[true]", "json") != extracted("[1]", "json")
    assert extracted("12345678901234567890123456789012", "json") != extracted(
        "12345678901234567890123456789013", "json"
    )


@pytest.mark.parametrize(
    "text", ["{", "", "no", "NaN", "[-Infinity]", "[" * 100_000, "1e99999999999999999999"]
)
def test_extracted_json_is_none_where_nothing_can_be_read(text: str):
    assert extracted(text, "json") is None


def test_extracted_open_answer_is_none():
    assert extracted("Answer: 42", "open") is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain <b>text</b> ", "plain <b>text</b> "),
        ("<think>a</think>\n\nb", "b"),
        ("thought\n</think>\nsaid", "said"),
        ("Write `<think>` first, then </think>.",) * 2,
        ("```\n<think>a</think>\n```",) * 2,
        ("<think>never closed", ""),
        ("said\n<think>never closed", "said"),
        ("<think>a</think>b\nAnswer: 4", "b\nAnswer: 4"),
    ],
)
def test_shown_text_is_without_thoughts(text: str, left: str):
    assert shown(text) == left


@pytest.mark.timeout(5)
@pytest.mark.parametrize("part", ["<think>", "\\boxed{", "Answer: ", "1,", "* ", "(", "\n"])
def test_extracted_reads_a_long_text_in_linear_time(part: str):
    extracted(part * 50_000, "number")
    extracted(part * 50_000, "choice")
