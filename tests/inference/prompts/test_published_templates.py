"""Conversations rendered by the templates of some seventy models, or refused, and why."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from inference.orders.tools.conversation import template_messages, template_tools, tools_as_text
from inference.orders.tools.syntax import syntax_of
from inference.prompts import chat_template
from inference.prompts.chat_template import TemplateFailedError, render
from models_registry.rules.chat_templates import (
    TEMPLATE_EXTENSIONS,
    TEMPLATE_FILTERS,
    fault_of_template,
)
from tests.inference.orders.tools.examples import TOOLS

ASK = {"role": "user", "content": "Weather in Paris?"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": "18 degrees."}


def call(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    results = [
        {"role": "tool", "tool_call_id": one["id"], "content": f"Result {one['id']}"}
        for one in calls
    ]
    return [ASK, {"role": "assistant", "content": None, "tool_calls": list(calls)}, *results]


PARIS = call("call_1", "get_weather", '{"city": "Paris"}')
PLAIN = {
    "plain": [SYSTEM, ASK, ANSWER, {"role": "user", "content": "And Rome?"}],
    "system midway": [
        SYSTEM,
        ASK,
        ANSWER,
        {"role": "system", "content": "Now in French."},
        {"role": "user", "content": "And Rome?"},
    ],
    "system at the end": [ASK, {"role": "system", "content": "Now in French."}],
}
WITH_TOOLS = {
    "tools": [ASK],
    "one call": calling(PARIS),
    "parallel calls": [*calling(PARIS, call("call_2", "clock", "{}")), ANSWER, ASK],
    "no arguments": calling(call("call_1", "clock", "")),
    "arguments cut off": calling(call("call_1", "get_weather", '{"city": "Par')),
    "null as arguments": calling(call("call_1", "clock", "null")),
    "a list as arguments": calling(call("call_1", "get_weather", '["Paris"]')),
}
CONVERSATIONS = PLAIN | WITH_TOOLS
CALLS = set(WITH_TOOLS) - {"tools"}

HERMES = {
    "Bielik-11B-v3.0-Instruct", "MiMo-VL", "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use", "Qwen-QwQ-32B", "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B", "Reka-Edge", "ibm-granite-granite-4.0", "ibm-granite-granite-4.1",
}  # fmt: skip
LLAMA3 = {
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
}
# By template: the conversations it refuses as the service tells them, and its reason.
REFUSED: dict[str, tuple[set[str], str]] = {
    # They were trained on one call at a time.
    **dict.fromkeys(LLAMA3, ({"parallel calls"}, "single tool-calls")),
    # It needs the tools as a text, and the date, under names that no other template reads;
    # both can be sent as variables of the template.
    "fireworks-ai-llama-3-firefunction-v2": (set(CONVERSATIONS), "'functions' is undefined"),
}
# The same where tools and calls are left to the template, also where the service does not.
REFUSED_ITSELF: dict[str, tuple[set[str], str]] = REFUSED | {
    # It writes out a description of each parameter.
    "CohereForAI-c4ai-command-r-plus-tool_use": (set(WITH_TOOLS), "no attribute 'description'"),
    # They change lists in place, which the sandbox forbids, here as in transformers.
    "Kimi-K2-Instruct": (CALLS, "'append' of 'list' object is unsafe"),
    "Kimi-K2-Thinking": (CALLS, "'append' of 'list' object is unsafe"),
    # Their ids have a form of their own.
    "Mistral-Small-3.2-24B-Instruct-2506": (CALLS, "length 9"),
    "mistralai-Mistral-Nemo-Instruct-2407": (CALLS, "length 9"),
    # It knows no results.
    "google-gemma-2-2b-it": (CALLS, "must alternate"),
    # It was written for llama.cpp's own engine, which takes any sequence for a list.
    "llama-cpp-deepseek-r1": (set(WITH_TOOLS), "not JSON serializable"),
    # It reads arguments as text.
    "meetkai-functionary-medium-v3.2": (
        {"one call", "parallel calls", "no arguments", "null as arguments"},
        "unsupported operand",
    ),
}
MARK = re.compile(
    r"<[|\uff5c][^\s<>]*>|<[^\s<>]+[|\uff5c]>|</?(?:think|tool_call|tool_response|tools?)>"
    r"|\[/?[A-Z_]{2,}\]|<(?:start|end)_of_turn>"
)


def as_served(template: str, name: str) -> dict[str, Any]:
    """The arguments of ``render`` that the service would pass."""
    given = as_it_is(template, name)
    if syntax_of(template) == "json":
        return {"messages": tools_as_text(given["messages"], given["tools"] or [])}
    return given


def as_it_is(_template: str, name: str) -> dict[str, Any]:
    request = parse({"model": "m", "messages": CONVERSATIONS[name]}, ChatRequest)
    tools = template_tools(TOOLS) if name in WITH_TOOLS else None
    return {"messages": template_messages(request.messages), "tools": tools}


def outcome(template: str, given: dict[str, Any]) -> str:
    """The text, or why there is none."""
    try:
        return "".join(render(template, marks=(), bos_token="<s>", eos_token="</s>", **given))
    except TemplateFailedError as error:
        return f"Refused: {error}"


def unexpected(
    name: str, outcomes: dict[str, str], table: dict[str, tuple[set[str], str]]
) -> Iterator[str]:
    """Differences from the table of expected outcomes."""
    conversations, reason = table.get(name, (set(), ""))
    for conversation, text in outcomes.items():
        refused = text.startswith("Refused: ")
        if refused != (conversation in conversations) or (refused and reason not in text):
            yield f"{name}, {conversation}: {text}"


def test_published_templates_are_read(published_templates: dict[str, str]):
    assert len(published_templates) >= 70
    assert {name: fault_of_template(text) for name, text in published_templates.items()} == (
        dict.fromkeys(published_templates, "")
    )
    assert {*REFUSED_ITSELF, *HERMES} <= published_templates.keys()


def test_published_templates_show_their_syntax(published_templates: dict[str, str]):
    syntaxes = {name: syntax_of(text) for name, text in published_templates.items()}
    assert {name for name, syntax in syntaxes.items() if syntax == "hermes"} == HERMES
    assert {name for name, syntax in syntaxes.items() if syntax == "llama3"} == LLAMA3


def test_published_templates_take_what_the_service_gives_them(published_templates: dict[str, str]):
    failures: list[str] = []
    for name, template in published_templates.items():
        outcomes = {one: outcome(template, as_served(template, one)) for one in CONVERSATIONS}
        failures += unexpected(name, outcomes, REFUSED)
        for conversation, text in outcomes.items():
            # Nothing that was said may be left out, not even broken arguments.
            said = [message["content"] for message in CONVERSATIONS[conversation]]
            said += ["Paris"] if "list" in conversation else []
            said += ["Par"] if "cut" in conversation else []
            missing = [one for one in said if one and one not in text]
            if missing and not text.startswith("Refused: "):
                failures.append(f"{name}, {conversation}: {missing}")
    assert not failures


def test_published_templates_that_tell_of_tools_themselves(published_templates: dict[str, str]):
    failures: list[str] = []
    for name, template in published_templates.items():
        outcomes = {one: outcome(template, as_it_is(template, one)) for one in CONVERSATIONS}
        failures += unexpected(name, outcomes, REFUSED_ITSELF)
    assert not failures


def test_published_templates_write_what_jinja_makes_of_them(
    published_templates: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    def texts(template: str) -> list[str]:
        given = [make(template, one) for one in CONVERSATIONS for make in (as_served, as_it_is)]
        # Reasons may name types.
        return [re.sub("Refused: .*", "Refused", outcome(template, one)) for one in given]

    ours = {name: texts(template) for name, template in published_templates.items()}
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=TEMPLATE_EXTENSIONS
    )
    known = chat_template._compiled("").environment
    own_filters = {name: known.filters[name] for name in TEMPLATE_FILTERS}
    # One template has texts that are safe for HTML, and would write others as HTML.
    environment.filters |= {**own_filters, "safe": str}
    environment.globals |= known.globals
    monkeypatch.setattr(chat_template, "_compiled", lru_cache(1)(environment.from_string))
    monkeypatch.setattr(chat_template, "trusted", str)
    differing = [name for name, text in published_templates.items() if texts(text) != ours[name]]
    assert not differing


def test_published_templates_marks_are_their_own(published_templates: dict[str, str]):
    """Each mark of an honest conversation stays whole, none that a user types does."""
    failures: list[str] = []
    for name, template in published_templates.items():
        given = as_served(template, "one call")
        text = outcome(template, given)
        if text.startswith("Refused: "):
            continue
        marks = tuple({*MARK.findall(text), "<|im_start|>", "<s>"})
        first, *others = given["messages"]
        typed = first | {"content": "".join([first["content"], *marks])}
        honest, attacked = (
            render(template, marks=marks, bos_token="<s>", **given | {"messages": messages})
            for messages in ([first, *others], [typed, *others])
        )
        found = [mark for piece in attacked for mark in MARK.findall(piece)]
        if len(honest) > 1 or found != MARK.findall(honest[0]):
            failures.append(f"{name}: {honest} {found}")
    assert not failures
