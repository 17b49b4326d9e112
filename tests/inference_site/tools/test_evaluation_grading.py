import pytest

from inference_site.tools.evaluation.grading import is_right, majority
from inference_site.tools.evaluation.records import Check

FIELDS = {"name": "Nils", "age": 22, "price": 3.5}


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        ("number", "104", "38 + 66 = 104", "That is 105."),
        ("number", "1000", "It is 1,000.0", "1"),
        ("yes_no", "yes", "Yes, they are.", "No."),
        ("yes_no", "no", "Answer: no", "It depends: yes and no."),
        ("choice", "b", "B) 811", "A) 548"),
        ("label", "sports", " Sports\n", "sport"),
        ("order", ["ant", "bee"], "bee, ant sorted: ant, bee", "bee, ant"),
        ("order", ["2", "10"], "2 10", "10 2"),
        ("json", FIELDS, '{"price":3.50,"age":22.0,"name":" nils"}', '{"name":"Nils","age":22}'),
        ("json", FIELDS, '{"name":"NILS","age":22,"price":3.5}', '{"name":"Nils","age":22,'),
        ("code", ["f(1) == 2"], "def f(n):\n    return n + 1", "def f(n):\n    return n"),
    ],
)
def test_grading_tells_right_from_wrong(kind, gold, right, wrong):
    check = Check(kind, gold)
    assert is_right(right, check)
    assert is_right(f"<think>{wrong}</think>{right}", check)
    assert not is_right(wrong, check)
    assert not is_right("", check)


def test_grading_takes_the_answer_of_most():
    check = Check("number", "4")
    assert majority(["It is 5.", "4", "four: 4"], check) == "4"
    assert majority(["I do not know.", "6", "7"], check) == "6"
    assert majority(["", "?"], check) == ""


def test_grading_counts_equal_fields_in_another_order():
    check = Check("json", FIELDS)
    texts = ['{"a": 2, "b": 1}', '{"a": 1, "b": "X"}', '{"b": "x", "a": 1.0}']
    assert majority(texts, check) == texts[1]
