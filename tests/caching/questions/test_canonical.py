"""The canonical form of a question."""

import pytest

from caching.questions.canonical import canonical_text


@pytest.mark.parametrize(
    "text",
    [
        "What's my favourite colour?",
        "  what is my   FAVORITE color ",
        "WHAT IS MY FAVOURITE COLOUR?!",
        "Hi there, whats my favorite colour please?",
        "um, what\u2019s my favourite colour? Many thanks in advance!",
        "Quick question: what is my favourite um colour",
        "Could you tell me: what is my favourite colour...",
    ],
)
def test_canonical_text_is_one_for_all_retypings(text: str):
    assert canonical_text(text) == "what is my favorite color"


def test_canonical_text_keeps_numbers_and_symbols_verbatim():
    assert (
        canonical_text("Is 1,000 C++ more than 10%?") == "is 1000 c++ more than 10%\n1000\nc++\n10%"
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I cook rice?", "How can I cook rice?"),
        ("How do I reset my password?", "How do I reset my pasword?"),
        ("Is the dog here?", "Is a dog here?"),
        ("Can I pay by card here?", "Here can I pay by card?"),
        ("Do I need my order?", "Do I need my orders?"),
    ],
)
def test_canonical_text_keeps_all_words_and_their_order(a: str, b: str):
    assert canonical_text(a) != canonical_text(b)


def test_canonical_text_of_a_question_about_a_text_keeps_each_character():
    assert canonical_text("How do I spell Polish?") != canonical_text("How do I spell polish?")
    assert canonical_text("Is it right: a, b") != canonical_text("Is it right: a b")


def test_canonical_text_is_none_out_of_bounds():
    assert canonical_text("Is it open today?") is None
    assert canonical_text("¿Es seguro?") is None


def test_canonical_text_of_its_own_form_is_the_same():
    form = canonical_text("Hello, why can't I organise my e-mails?")
    assert form is not None
    assert canonical_text(form) == form
