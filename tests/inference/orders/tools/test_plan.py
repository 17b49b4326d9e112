"""Requests with tools: which are refused, and which calls the others allow."""

from typing import Any

import pytest

from inference.errors import InvalidRequestError
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from inference.orders.tools.grammar import MAX_CALLS, CallLimits
from inference.orders.tools.offer import call_limits, callable_tools, offered_tools


def tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def request(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "Hi"}]
    return parse({"model": "m", "messages": messages, **fields}, ChatRequest)


TWO = [tool("a"), tool("b")]


AUTO, ONE_FORCED = CallLimits(False, MAX_CALLS), CallLimits(True, 1)


@pytest.mark.parametrize(
    ("fields", "offered", "callable_", "limits"),
    [
        ({}, "ab", "ab", AUTO),
        ({"tool_choice": "auto"}, "ab", "ab", AUTO),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, "ab", "ab", CallLimits(False, 1)),
        ({"tool_choice": "required"}, "ab", "ab", ONE_FORCED),
        (
            {"tool_choice": "required", "parallel_tool_calls": False},
            "ab",
            "ab",
            ONE_FORCED,
        ),
        (
            {"tool_choice": "required", "parallel_tool_calls": True},
            "ab",
            "ab",
            CallLimits(True, MAX_CALLS),
        ),
        ({"tool_choice": named("b")}, "ab", "b", ONE_FORCED),
    ],
)
def test_plan_of_each_choice(
    fields: dict[str, Any], offered: str, callable_: str, limits: CallLimits
):
    body = request(tools=TWO, **fields)
    tools = offered_tools(body)
    assert "".join(entry.name for entry in tools) == offered
    assert "".join(entry.name for entry in callable_tools(body, tools)) == callable_
    assert call_limits(body, parallel=True) == limits
    assert call_limits(body, parallel=False).max_calls == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": []},
        {"tools": None, "tool_choice": "none"},
        {"tool_choice": "auto"},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
        {"parallel_tool_calls": True},
        {"tools": TWO, "tool_choice": "none", "response_format": {"type": "json_object"}},
    ],
)
def test_plan_without_tools_to_call_offers_none(fields: dict[str, Any]):
    assert offered_tools(request(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("a"), tool("b"), tool("a")]}, "tools[2].function.name"),
        ({"tools": [tool("a", parameters={"type": "array"})]}, "tools[0].function.parameters"),
        (
            {"tools": [tool("a", parameters={"not": {}}, strict=True)], "tool_choice": "none"},
            "tools[0].function.parameters",
        ),
        ({"tools": TWO, "tool_choice": named("c")}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": named("a")}, "tool_choice"),
        ({"tools": TWO, "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": TWO, "regex": "a+"}, "regex"),
        ({"tools": TWO, "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_plan_refuses_invalid_combinations(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidRequestError) as refused:
        offered_tools(request(**fields))
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("a" * 129)]}, "tools[0].function.name"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool(f"t{index}") for index in range(129)]}, "tools"),
        ({"tools": [{"type": "custom", "function": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [tool("a", parameters=[])]}, "tools[0].function.parameters"),
        ({"tools": [tool("a", returns={})]}, "tools[0].function.returns"),
        ({"tools": TWO, "tool_choice": "any"}, "tool_choice"),
        ({"tools": TWO, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": TWO, "functions": [{"name": "a"}]}, "functions"),
    ],
)
def test_plan_refuses_invalid_tools(fields: dict[str, Any], param: str):
    with pytest.raises(InvalidRequestError) as refused:
        request(**fields)
    assert refused.value.param == param
