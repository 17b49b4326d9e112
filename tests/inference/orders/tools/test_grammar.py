"""The grammar of answers with tools, token by token, in a vocabulary of bytes."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from inference.engine.backend import GrammarError
from inference.errors import InvalidRequestError
from inference.orders.tools.grammar import CallLimits, lark_of
from inference.orders.tools.offer import arguments_schema
from inference.orders.tools.schemas import FunctionDefinition, Tool
from inference.orders.tools.syntax import CallSyntax, SyntaxName
from tests.inference.engine.fake_backend import END_OF_GENERATION, grammar_compiler
from tests.inference.orders.tools.examples import (
    CLOCK,
    HERMES_CALL,
    HERMES_CLOCK,
    JSON_CALL,
    JSON_CLOCK,
    LLAMA3_CALL,
    TOOLS,
    WEATHER,
)

PARAM = "tools[0].function.parameters"
AUTO, FORCED, ONE = CallLimits(forced=False), CallLimits(forced=True), CallLimits(True, max_calls=1)
# Bytes that no text of these tests has, in the place of control tokens.
OPENING, CLOSING = 1, 2
HERMES_TAGS = {"<tool_call>": OPENING, "</tool_call>": CLOSING}


def grammar(name: SyntaxName, limits: CallLimits, **fields: Any) -> str:
    fields = {"tools": TOOLS, "tag_tokens": {}, **fields}
    tools = {tool.function.name: arguments_schema(tool, PARAM) for tool in fields.pop("tools")}
    return lark_of(tools, spelling=CallSyntax(name).spelling, limits=limits, **fields)


def may_say(lark: str, answer: str | Sequence[int]) -> bool:
    """Whether an answer may be this and end there."""
    tokens = list(answer.encode()) if isinstance(answer, str) else list(answer)
    matcher = grammar_compiler().matcher(lark)
    for token_id in [*tokens, END_OF_GENERATION]:
        try:
            excluded = matcher.excluded()
        except GrammarError:
            return False
        if excluded[token_id]:
            return False
        matcher.consume([token_id])
    return True


def tagged(text: str) -> list[int]:
    """The tokens of a text whose tags are tokens of their own."""
    text = text.replace("<tool_call>", chr(OPENING)).replace("</tool_call>", chr(CLOSING))
    return list(text.encode())


@pytest.mark.parametrize("limits", [AUTO, FORCED, ONE])
@pytest.mark.parametrize(
    ("name", "call"), [("hermes", HERMES_CALL), ("llama3", LLAMA3_CALL), ("json", JSON_CALL)]
)
def test_grammar_allows_a_call(name: SyntaxName, call: str, limits: CallLimits):
    lark = grammar(name, limits)
    assert may_say(lark, call)
    assert may_say(lark, call.replace("get_weather", "clock").replace('"city": "Paris"', ""))
    assert may_say(lark, call.replace('"Paris"', '"Par\\"is", "unit": "celsius"'))


@pytest.mark.parametrize("limits", [AUTO, FORCED, ONE])
@pytest.mark.parametrize(
    ("name", "call"), [("hermes", HERMES_CALL), ("llama3", LLAMA3_CALL), ("json", JSON_CALL)]
)
def test_grammar_enforces_the_schema_of_a_call(name: SyntaxName, call: str, limits: CallLimits):
    lark = grammar(name, limits)
    for wrong in (
        call.replace("get_weather", "get_whether"),
        call.replace("get_weather", "clock"),
        call.replace('"Paris"', "1"),
        call.replace('"city": "Paris"', ""),
        call.replace('"Paris"', '"Paris", "unit": "kelvin"'),
        call.replace('"Paris"', '"Paris", "extra": 1'),
        call[:-1],
        call + " And more.",
    ):
        assert not may_say(lark, wrong), wrong


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "Hello <b>world</b> <tool"),
        ("hermes", JSON_CALL),
        ("llama3", 'Hello {"name": "x"}'),
        ("json", '{"answer": {"name": 1}}'),
        ("json", f" {JSON_CALL}"),
        ("json", ""),
    ],
)
def test_grammar_allows_text_only_if_no_call_is_forced(name: SyntaxName, text: str):
    assert may_say(grammar(name, AUTO), text)
    assert not may_say(grammar(name, FORCED), text)


def test_grammar_allows_text_before_a_call_of_hermes():
    assert may_say(grammar("hermes", AUTO), f"Let me see.\n{HERMES_CALL}")
    assert not may_say(grammar("hermes", AUTO), f"{HERMES_CALL}\nIt is warm.")


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("hermes", f"{HERMES_CALL}\n{HERMES_CLOCK}\n{HERMES_CALL}"),
        ("llama3", f"{LLAMA3_CALL}; {LLAMA3_CALL}; {LLAMA3_CALL}"),
        ("json", f"{JSON_CALL}\n{JSON_CLOCK}\n{JSON_CALL}"),
    ],
)
def test_grammar_limits_the_number_of_calls(name: SyntaxName, calls: str):
    for forced in (False, True):
        assert may_say(grammar(name, CallLimits(forced, max_calls=3)), calls)
        assert not may_say(grammar(name, CallLimits(forced, max_calls=2)), calls)


def test_grammar_writes_a_tag_as_the_token_that_it_is():
    lark = grammar("hermes", AUTO, tag_tokens=HERMES_TAGS)
    assert may_say(lark, tagged(f"Look:\n{HERMES_CALL}\n{HERMES_CLOCK}"))
    assert may_say(lark, "Hello <b>")
    # Spelled out it would be a call that nothing holds to its schema.
    assert not may_say(lark, HERMES_CALL)
    assert may_say(grammar("hermes", FORCED, tag_tokens=HERMES_TAGS), tagged(HERMES_CALL))
    assert not may_say(grammar("hermes", FORCED, tag_tokens=HERMES_TAGS), HERMES_CALL)


@pytest.mark.parametrize("limits", [AUTO, FORCED, ONE])
def test_grammar_lets_llama_leave_its_tag_out(limits: CallLimits):
    lark = grammar("llama3", limits, tag_tokens={"<|python_tag|>": OPENING})
    assert may_say(lark, LLAMA3_CALL)
    assert may_say(lark, chr(OPENING) + LLAMA3_CALL)
    assert not may_say(lark, chr(OPENING) + "Hello")


def test_grammar_resolves_references_within_each_tool():
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    schema = {"properties": {"p": {"$ref": "#/$defs/P"}}, "required": ["p"], "$defs": {"P": point}}
    tools = [WEATHER, Tool("function", FunctionDefinition("go", None, schema)), CLOCK]
    lark = grammar("json", FORCED, tools=tools)
    assert may_say(lark, '{"name": "go", "arguments": {"p": {"x": 1}}}')
    assert not may_say(lark, '{"name": "go", "arguments": {"p": {"x": "1"}}}')


def test_grammar_survives_any_text_in_a_schema():
    words = '// # \n " \\ / %json {} <tool_call> TEXT: é'
    schema = {"properties": {words: {"enum": [words]}}, "required": [words], "description": words}
    lark = grammar("json", FORCED, tools=[Tool("function", FunctionDefinition("f", words, schema))])
    arguments = json.dumps({words: words}, ensure_ascii=False)
    assert may_say(lark, f'{{"name": "f", "arguments": {arguments}}}')


@pytest.mark.parametrize(
    ("parameters", "closed"),
    [
        (None, True),
        ({}, True),
        ({"$schema": "x", "title": "F", "type": "object", "properties": {}}, True),
        ({"type": "object", "properties": {"a": {}}}, True),
        ({"type": ["object", "null"], "properties": {"a": {}}}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, False),
        ({"type": "object", "properties": {"a": {}}, "if": {}, "then": {}}, False),
        ({"additionalProperties": True}, False),
        ({"anyOf": [{"properties": {"a": {}}}]}, False),
        ({"$ref": "#/$defs/A", "$defs": {"A": {}}}, False),
    ],
)
def test_grammar_closes_a_schema_that_only_lists_properties(parameters: Any, closed: bool):
    tool = Tool("function", FunctionDefinition("f", None, parameters))
    schema = arguments_schema(tool, PARAM).schema
    assert schema["type"] == "object"
    assert (schema.get("additionalProperties") is False) == closed


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"type": "string"}, "type 'object'"),
        ({"type": ["array", "null"]}, "type 'object'"),
        ({"properties": {"a": {"uniqueItems": True}}}, "uniqueItems"),
        ({"properties": {"a": {"default": json.loads("[" * 90 + "]" * 90)}}}, "nested"),
    ],
)
def test_grammar_refuses_a_schema_that_cannot_be_enforced(parameters: Any, message: str):
    tool = Tool("function", FunctionDefinition("f", None, parameters, strict=True))
    with pytest.raises(InvalidRequestError, match=message) as refused:
        arguments_schema(tool, PARAM)
    assert refused.value.param == "tools[0].function.parameters"
