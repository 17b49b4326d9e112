"""Signs of an output that would mislead the next model."""

import pytest

from inference.orchestration.contamination import issues_of, worst
from tests.inference.orchestration.test_handoff import a_state


def types(output: str, *decisions: str, user_text: str = "") -> list[str]:
    state = a_state(decisions_made=decisions)
    return [issue.type for issue in issues_of(output, state, user_text=user_text)]


@pytest.mark.parametrize(
    "output",
    [
        "I apologize, I made an error.",
        "That\u2019s incorrect: it is 3.",
        "i don't have information about it",
    ],
)
def test_error_marker_is_a_warning(output: str):
    issues = issues_of(output, a_state(), user_text="")
    assert {issue.type for issue in issues} == {"error_marker_detected"}
    assert worst(issues) == "warning"


@pytest.mark.parametrize(
    ("output", "user_text"),
    [
        ("Je m'excuse means: I apologize.", 'Translate "i apologize" into French.'),
        ("```\nprint('I apologize')\n```\nDone.", ""),
        ("<think>I made an error</think>The sum is 4.", ""),
        ("All good.", ""),
    ],
)
def test_error_marker_in_code_or_the_users_words_is_none(output: str, user_text: str):
    assert types(output, user_text=user_text) == []


@pytest.mark.parametrize("output", ["", " \n\t", "<think>only thoughts</think>", "<think>cut"])
def test_empty_output_is_high(output: str):
    issues = issues_of(output, a_state(), user_text="")
    assert [issue.type for issue in issues] == ["empty_output"]
    assert worst(issues) == "high"


@pytest.mark.parametrize("output", ["the " * 200, "I will do it now. " * 20, "你好吗" * 20])
def test_degenerate_output_is_high(output: str):
    assert types(output) == ["degenerate_output"]


@pytest.mark.parametrize(
    "output",
    [
        "the " * 39,
        "```\n" + "0 0 0 0\n" * 50 + "```",
        " ".join(f"word{n} goes here" for n in range(50)),
    ],
)
def test_output_that_repeats_little_is_fine(output: str):
    assert types(output) == []


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        ("Use PostgreSQL", "Do not use PostgreSQL"),
        ("Use PostgreSQL.", "As said:\n- **Don't use PostgreSQL**, because it is slow."),
        ("Decision: use PostgreSQL", "We should never use PostgreSQL."),
        ("Do not use PostgreSQL", "We decided to use PostgreSQL!"),
        ("The client can retry", "The client cannot retry."),
        ("The limit is 5 MB", "I checked. The limit is 10 MB."),
        ("The answer is 42", "The answer is 43."),
        ("Use two workers", "Use four workers."),
        ("Use PostgreSQL 16", "Do not use PostgreSQL"),
        ("There is an error in line 3", "There is no error in line 3."),
        ("Use PostgreSQL and MySQL", "Use PostgreSQL, not MySQL."),
    ],
)
def test_contradiction_of_a_decision_is_high(decision: str, output: str):
    issues = issues_of(output, a_state(decisions_made=("Be brief", decision)), user_text="")
    assert [issue.type for issue in issues] == ["contradiction_detected"]
    assert decision in issues[0].detail
    assert worst(issues) == "high"


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        ("Use PostgreSQL", "Do use PostgreSQL, not MySQL"),
        ("Use PostgreSQL", "Use PostgreSQL. Do not use MySQL."),
        ("Use PostgreSQL", "No, use PostgreSQL."),
        ("Use PostgreSQL", "Why not use PostgreSQL?"),
        ("Use PostgreSQL", "If the data is tiny, do not use PostgreSQL."),
        ("Use PostgreSQL", "Do not use PostgreSQL for logs."),
        ("Use PostgreSQL", "```\n# do not use PostgreSQL\n```\nDone."),
        ("Use PostgreSQL 16", "Do not use PostgreSQL 12"),
        ("Do not use PostgreSQL 12", "Do not use PostgreSQL 13"),
        ("Use PostgreSQL 16", "Use PostgreSQL"),
        ("Use five workers", "Use 5 workers"),
        ("The limit is 1,000 bytes", "The limit is 1000 bytes"),
        ("Use 2 to 4 workers", "Use 4 workers"),
        ("Step 1 is done", "Step 2 is done"),
        ("Ann pays Bob", "Bob does not pays Ann"),
        ("Yes", "No"),
        ("不要使用 PostgreSQL", "使用 PostgreSQL"),
    ],
)
def test_output_that_agrees_with_a_decision_is_fine(decision: str, output: str):
    assert types(output, decision) == []


@pytest.mark.parametrize(("errors", "found"), [(2, []), (3, ["error_accumulation"])])
def test_more_errors_than_steps_is_high(errors: int, found: list[str]):
    issues = issues_of("Fine.", a_state(active_errors=("e",) * errors), user_text="")
    assert [issue.type for issue in issues] == found
    assert worst(issues) == ("high" if found else "")


def test_contamination_takes_a_long_text():
    output = "a" * 1_000_000 + "\n" + "It is so. " * 20_000
    assert types(output, "Use PostgreSQL") == ["degenerate_output"]
