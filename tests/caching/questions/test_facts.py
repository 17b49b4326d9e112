"""Facts of a question, and texts that are not compared."""

import time

import pytest

from caching.questions.facts import facts_of, out_of_bounds

LONG = "Is this right? " + "And the next part of the text is as long as the first one. " * 30


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LONG + "7", "longer than 60 words or 600 characters"),
        ("is " * 61, "longer than 60 words or 600 characters"),
        ("is it " + "a" * 600, "longer than 60 words or 600 characters"),
        ("Is this right? ```x = 1```", "a block of code"),
        ("¿Es seguro tomar ibuprofeno?", "no English sentence"),
        ("Quel est le prix du pain?", "no English sentence"),
        ("東京の天気は", "letters outside Latin"),
        ("What is 東京 like?", "letters outside Latin"),
        ("Is it s\u200bafe?", "invisible characters"),
        ("Is it s\u00adafe?", "invisible characters"),
        ("Is it sa\u0489fe?", "invisible characters"),
        ("Is it s\u0430fe to eat the apples of my friend?", "a word of two alphabets"),
        ("What's the weather today?", "an answer that depends on the time"),
        ("What is the weather tomorow?", "an answer that depends on the time"),
        ("what is the weather todya", "an answer that depends on the time"),
        ("Who is the current president?", "an answer that depends on the time"),
        ("What are the latest news?", "an answer that depends on the time"),
        ("Who won yesterday's game?", "an answer that depends on the time"),
        ("Is it open now?", "an answer that depends on the time"),
        ("Is it open next Monday?", "an answer that depends on the time"),
        ("What can I do this week?", "an answer that depends on the time"),
        ("What time is it?", "an answer that depends on the time"),
        ("", "no words"),
        (" ?? 42", "no words"),
    ],
)
def test_out_of_bounds_gives_the_reason(text: str, reason: str):
    assert out_of_bounds(text) == reason
    assert facts_of(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "What is rain?",
        "How do I open a current account?",
        "What does π stand for in this formula of my book?",
        "Is the café open on Mondays?",
        "Where do people know this?",
        "is " * 60,
    ],
)
def test_out_of_bounds_lets_questions_pass(text: str):
    assert out_of_bounds(text) == ""
    assert facts_of(text) is not None


def test_facts_hold_all_that_a_hit_must_share():
    facts = facts_of("Which train does not leave before 9:30 on two Mondays in under 3 hours?")
    assert facts is not None
    assert dict(facts.shared) == {
        "kind of question": ("which",),
        "numbers, symbols or code": ("9:30", "3"),
        "number words": ("two",),
        "dates": ("mondays",),
        "units": ("hours",),
        "negations": ("not",),
        "comparisons": ("before", "under"),
    }
    assert len(facts.digest) == 32


def test_facts_names_are_capitals_inside_a_sentence():
    facts = facts_of("Is Rome bigger than Paris? The Louvre is in it.")
    assert facts is not None
    assert facts.names == {"rome", "paris", "louvre"}
    titled = facts_of("Is Rome Bigger Than Paris?")
    assert titled is not None
    assert titled.names == set()


def test_facts_of_a_question_about_a_text_hold_each_character():
    a, b = facts_of("How do you spell Colour"), facts_of("how do you spell colour")
    assert a is not None
    assert b is not None
    assert a.digest != b.digest


@pytest.mark.parametrize(
    "text", ["is " * 59 + "it?", "Is it " + "-" * 500, "is it " + "ab'-" * 120]
)
def test_facts_of_long_texts_take_no_longer_than_their_length_explains(text: str):
    """A regular expression that backtracks would take seconds."""
    started = time.process_time()
    facts_of(text)
    assert time.process_time() - started < 0.25
