"""Reading answers with calls, in whatever pieces they come."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.answers.parser import (
    ArgumentsText,
    CallBegun,
    CallEnded,
    CallParser,
    Content,
    Event,
)
from inference.orders.tools.syntax import CallSyntax, SyntaxName
from tests.inference.orders.tools.examples import (
    HERMES_CALL,
    HERMES_CLOCK,
    JSON_CALL,
    JSON_CLOCK,
    LLAMA3_CALL,
    NAMES,
)

SYNTAXES: list[SyntaxName] = ["hermes", "llama3", "json"]
PARIS = [CallBegun("get_weather"), ArgumentsText('{"city": "Paris"}'), CallEnded()]
CLOCK = [CallBegun("clock"), ArgumentsText("{}"), CallEnded()]


def joined(events: Sequence[Event]) -> list[Event]:
    """Events with neighbouring texts put together."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, Content) and isinstance(last, Content):
            result[-1] = Content(last.text + event.text)
        elif isinstance(event, ArgumentsText) and isinstance(last, ArgumentsText):
            result[-1] = ArgumentsText(last.text + event.text)
        else:
            result.append(event)
    return result


def read(name: SyntaxName, *pieces: str) -> list[Event]:
    """The events of an answer that comes in pieces."""
    parser = CallParser(CallSyntax(name, NAMES))
    events = [event for piece in pieces for event in parser.feed(piece)]
    return joined([*events, *parser.close()])


@pytest.mark.parametrize(
    ("name", "text", "events"),
    [
        ("hermes", HERMES_CALL, PARIS),
        ("hermes", f"{HERMES_CALL}\n{HERMES_CLOCK}", [*PARIS, *CLOCK]),
        ("hermes", f"Let me see.\n{HERMES_CALL}", [Content("Let me see.\n"), *PARIS]),
        ("hermes", f"\n\n{HERMES_CALL}\n", PARIS),
        # A tag that is a control token is not in the text.
        ("hermes", f"\n{JSON_CALL}\n", PARIS),
        ("llama3", LLAMA3_CALL, PARIS),
        ("llama3", f"<|python_tag|>{LLAMA3_CALL}", PARIS),
        ("llama3", LLAMA3_CALL.replace("{", '{"type": "function", ', 1), PARIS),
        ("llama3", f"{LLAMA3_CALL}; {LLAMA3_CALL}", [*PARIS, *PARIS]),
        ("hermes", HERMES_CALL.replace('"name"', ' "name"'), PARIS),
        ("json", f"{JSON_CALL}\n{JSON_CLOCK}", [*PARIS, *CLOCK]),
        ("hermes", f"```json\n{JSON_CALL}\n```", PARIS),
        ("json", f"A:\n```json\n{JSON_CALL}\n{JSON_CLOCK}\n```", [Content("A:\n"), *PARIS, *CLOCK]),
        ("json", f"I will look.\n{JSON_CALL}", [Content("I will look.\n"), *PARIS]),
        ("json", JSON_CLOCK.replace(" ", "\n "), CLOCK),
    ],
)  # fmt: skip
def test_parser_finds_calls(name: SyntaxName, text: str, events: list[Event]):
    assert read(name, text) == events
    assert read(name, *text) == events


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "Hello, <b>world</b>!",
        '{"answer": 42}',
        '{"name": "Ada", "arguments": {}}',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "arguments": "Paris"}',
        '{"name": "get_weather", "arguments": [1]}',
        f"He wrote {JSON_CALL} there.",
        "{" + " " * 1000 + '"name": "clock", "arguments": {}}',
        '{"name": "clock", "arguments" : {not json}}',
        '{"name": "clock", "arguments" : {}, }',
        "<tool_call>\nno call\n</tool_call>",
        '```json\n{"answer": 42}\n```',
        f"In line: ```json\n{{}}\n``` {JSON_CALL}",
        "<tool_call>",
        "a <tool_",
        '<tool_call>\n{"name": "clock", "argu',
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>',
        "\ud83d",
    ],
)
def test_parser_leaves_other_text_as_content(name: SyntaxName, text: str):
    assert read(name, text) == ([Content(text)] if text else [])


def test_parser_passes_on_arguments_as_they_come():
    parser = CallParser(CallSyntax("hermes", NAMES))
    begun = parser.feed('<tool_call>\n{"name": "get_weather", "arguments": {"ci')
    assert begun == [CallBegun("get_weather"), ArgumentsText('{"ci')]
    assert parser.feed('ty": "P}') == [ArgumentsText('ty": "P}')]


@pytest.mark.parametrize("before", ["```json\n", f"{LLAMA3_CALL.replace('{', '{ ', 1)} "])
def test_parser_trusts_no_call_after_one_that_is_not_guaranteed(before: str):
    parser = CallParser(CallSyntax("llama3", NAMES))
    parser.feed(before)
    assert parser.feed(LLAMA3_CALL[:-1]) == []
    assert parser.feed("}") == PARIS


def test_parser_holds_a_call_that_is_not_guaranteed_until_it_is_valid():
    parser = CallParser(CallSyntax("hermes", NAMES))
    assert parser.feed(JSON_CALL[:-1]) == []
    assert parser.feed("}") == PARIS


@pytest.mark.parametrize("text", [HERMES_CALL, LLAMA3_CALL, JSON_CALL])
def test_parser_keeps_the_arguments_of_a_call_that_is_cut(text: str):
    name: SyntaxName = "hermes" if "<" in text else "llama3" if "param" in text else "json"
    cut = text.index("Par") + 2
    assert read(name, text[:cut]) == [PARIS[0], ArgumentsText('{"city": "Pa')]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", f'{HERMES_CALL}\n<tool_call>\n{{"name": "cl'),
        ("hermes", f"{HERMES_CALL}\n<tool_call>"),
        ("llama3", f"{LLAMA3_CALL}; {{"),
        ("json", f'{JSON_CALL}\n{{"name": "clock", "a'),
    ],
)
def test_parser_drops_one_more_call_that_is_cut_before_its_arguments(name: SyntaxName, text: str):
    assert read(name, text) == read(name, *text) == PARIS


def test_parser_reads_a_head_of_bounded_length():
    parser = CallParser(CallSyntax("json", NAMES))
    parser.feed("{")
    events = [event for _ in range(1000) for event in parser.feed(" ")]
    assert events
    for spaces in range(350, 420):
        text = "{" + " " * spaces + JSON_CLOCK[1:]
        assert read("json", text) == read("json", *text)


FRAGMENTS = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<|python_tag|>", "<tool", "\n", " ", "; ", "{", "}", '"'),
        *("\\", "hello", "é", HERMES_CALL, HERMES_CLOCK, LLAMA3_CALL, JSON_CALL, JSON_CLOCK),
        *(
            "```json",
            "```",
            '{"name": ',
            '"clock"',
            '"arguments": ',
            ", ",
            '{"city": "}\\""}',
            "[1, {}]",
        ),
        *('{"name": "clock", "arguments": ', '{"name": "clock", "parameters": '),
    ]
)


@given(
    st.sampled_from(SYNTAXES),
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_parser_gives_the_same_events_however_the_text_is_cut(
    name: SyntaxName, text: str, cuts: list[int]
):
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert read(name, *pieces) == read(name, text) == read(name, *text)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(SYNTAXES),
    st.lists(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=3), min_size=1, max_size=3),
)
def test_parser_gives_arguments_as_the_model_wrote_them(name: SyntaxName, values: list[object]):
    spelling = CallSyntax(name, NAMES).spelling
    written = [json.dumps(value, ensure_ascii=False) for value in values]
    text = spelling.separator.join(
        spelling.opening
        + spelling.after_opening
        + spelling.head("clock")
        + arguments
        + "}"
        + spelling.before_closing
        + spelling.closing
        for arguments in written
    )
    events = read(name, text)
    assert [event.text for event in events if isinstance(event, ArgumentsText)] == written
    assert not any(isinstance(event, Content) for event in events)
