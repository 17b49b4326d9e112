"""Hints: accepted without effect, and named."""

from typing import Any

import pytest

from inference.api.ignored import MAX_HEADER_CHARACTERS, header_value
from inference.errors import InvalidRequestError
from inference.orders.hints import hints_in
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest

MESSAGE: dict[str, Any] = {"role": "user", "content": "x"}
CHAT: dict[str, Any] = {"model": "m", "messages": [MESSAGE]}
CACHED = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"store": True, "metadata": {"a": "b"}}, ["store", "metadata"]),
        ({"store": False, "metadata": {}, "prompt_cache_key": None, "include": []}, []),
        ({"service_tier": "auto"}, []),
        ({"service_tier": "flex"}, ["service_tier"]),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            ["stream_options.include_obfuscation"],
        ),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, []),
        ({"messages": [MESSAGE | {"cache_control": CACHED}] * 2}, ["messages.cache_control"]),
        (
            {"messages": [MESSAGE | {"content": [{"type": "text", "text": "x", "detail": "low"}]}]},
            ["messages.content.detail"],
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}, "cache_control": CACHED}]},
            ["tools.cache_control"],
        ),
    ],
)
def test_hints_are_accepted_and_named_once(fields: dict[str, Any], names: list[str]):
    parse(CHAT | fields, ChatRequest)
    assert hints_in(CHAT | fields) == names


def test_hints_keep_values_that_are_not_objects():
    body = CHAT | {"messages": [[[[MESSAGE | {"id": 1}]]]]}
    assert hints_in(body) == []
    with pytest.raises(InvalidRequestError):
        parse(body, ChatRequest)
    deep: Any = []
    for _ in range(800):
        deep = [deep]
    with pytest.raises(InvalidRequestError):
        parse(CHAT | {"messages": deep}, ChatRequest)


@pytest.mark.parametrize(
    "fields",
    [
        {"temprature": 1},
        {"messages": [MESSAGE | {"store": True}]},
        {"tools": [{"type": "function", "function": {"name": "f", "metadata": {}}}]},
        {"stream_options": {"store": True}},
        {"messages": [MESSAGE | {"videos": ["x"]}]},
    ],
)
def test_hints_do_not_hide_unknown_parameters(fields: dict[str, Any]):
    with pytest.raises(InvalidRequestError) as error:
        parse(CHAT | fields, ChatRequest)
    assert error.value.code == "unknown_parameter"


def test_hints_are_not_removed_from_schemas():
    schema: dict[str, Any] = {"properties": {"cache_control": {}, "metadata": {}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    read = parse(CHAT | {"tools": tools}, ChatRequest)
    assert read.tools is not None
    assert read.tools[0].function.parameters == schema


def test_header_of_many_names_says_how_many_are_left_out():
    names = [f"tools[{index}].function.parameters: not" for index in range(128)]
    value = header_value(names)
    assert len(value) < MAX_HEADER_CHARACTERS + 20
    shown, _, more = value.rpartition(", and ")
    assert f"{shown.count(',') + 1 + int(more.split()[0])}" == "128"
    assert header_value(["é"]) == "\\xe9"
