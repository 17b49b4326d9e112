"""Conversations with calls and results: validation and rendering."""

from typing import Any

import pytest

from inference.errors import InvalidRequestError
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest
from inference.orders.tools.conversation import template_messages, template_tools, tools_as_text
from inference.prompts.chat_template import TemplateFailedError, render
from tests.inference.orders.tools.examples import TOOLS, template

ASK = {"role": "user", "content": "Weather in Paris?"}
CONTROL = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<s>")


def call(
    id_: str = "call_1", name: str = "get_weather", arguments: str = '{"city": "Paris"}'
) -> Any:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(calls or [call()]), **fields}


def result(id_: str = "call_1", content: str = "18 degrees") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def messages_of(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    request = parse({"model": "m", "messages": list(messages)}, ChatRequest)
    return template_messages(request.messages)


def rendered(name: str, messages: list[dict[str, Any]], *, tools: bool = True) -> str:
    shown = template_tools(TOOLS) if tools else None
    return "".join(render(template(name), messages, CONTROL, tools=shown, bos_token="<s>"))


def test_conversation_gives_templates_arguments_as_objects_and_results_their_name():
    messages = messages_of(
        ASK, calling(call(), call("call_2", "clock", "")), result("call_2"), result()
    )
    _, called, second, first = messages
    assert called["content"] == ""
    functions = [entry["function"] for entry in called["tool_calls"]]
    assert functions[0] == {"name": "get_weather", "arguments": {"city": "Paris"}}
    assert functions[1]["arguments"] == {}
    assert (second["name"], first["name"]) == ("clock", "get_weather")
    assert first["tool_call_id"] == "call_1"


def test_conversation_takes_answers_and_results_without_a_text():
    messages = messages_of(ASK, {"role": "assistant", "content": None, "tool_calls": []}, ASK)
    assert messages[1] == {"role": "assistant", "content": ""}
    called = messages_of(ASK, calling(), result() | {"content": None}, ASK | {"tool_calls": []})
    assert called[2]["content"] == ""


@pytest.mark.parametrize("arguments", ["", " ", "null", "{}"])
def test_conversation_has_no_arguments_where_a_model_wrote_none(arguments: str):
    messages = messages_of(ASK, calling(call(arguments=arguments)), result())
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    "arguments", ["not json", "[1]", '{"a": ' + "[" * 50 + "]" * 50 + "}", "{" * 5000]
)
def test_conversation_leaves_arguments_that_are_no_plain_object_as_text(arguments: str):
    messages = messages_of(ASK, calling(call(arguments=arguments)), result())
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([ASK, result()], "messages[1].tool_call_id"),
        ([ASK, calling(), result("call_9")], "messages[2].tool_call_id"),
        ([ASK, calling(), result(), result()], "messages[3].tool_call_id"),
        ([ASK, calling(), result(), ASK, result()], "messages[4].tool_call_id"),
        ([ASK, calling()], "messages[1]"),
        ([ASK, calling(), ASK], "messages[2]"),
        ([ASK, calling(call(), call("call_2")), result(), ASK], "messages[3]"),
        ([ASK, calling(call(), call())], "messages[1].tool_calls"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "system", "content": None}], "messages[0].content"),
        ([{**ASK, "tool_calls": [call()]}], "messages[0].tool_calls"),
        ([{**ASK, "tool_call_id": "call_1"}], "messages[0].tool_call_id"),
        ([{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ],
)
def test_conversation_whose_calls_and_results_do_not_match_is_refused(messages: Any, param: str):
    with pytest.raises(InvalidRequestError) as refused:
        messages_of(*messages)
    assert refused.value.param == param


@pytest.mark.parametrize("name", ["qwen2.5", "hermes"])
def test_conversation_in_hermes_syntax(name: str):
    text = rendered(
        name, messages_of(ASK, calling(call(), call("b", "clock", "{}")), result(), result("b"))
    )
    assert '"description": "The weather now"' in text or "- The weather now" in text
    assert (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>' in text
    )
    assert '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>' in text
    assert text.count("<tool_response>") == 2
    assert "18 degrees" in text


def test_conversation_in_llama_syntax():
    text = rendered("llama3", messages_of(ASK, calling(), result()))
    assert '"name": "get_weather",' in text
    assert '{"name": "get_weather", "parameters": {"city": "Paris"}}<|eot_id|>' in text
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n{"output": "18 degrees"}' in text


def test_conversation_that_a_template_refuses_says_why():
    messages = messages_of(ASK, calling(call(), call("b")), result(), result("b"))
    with pytest.raises(TemplateFailedError, match="single tool-calls"):
        rendered("llama3", messages)


@pytest.mark.parametrize("name", ["qwen2.5", "hermes", "llama3"])
def test_conversation_without_tools_is_unchanged(name: str):
    text = rendered(name, messages_of(ASK), tools=False)
    assert "Weather in Paris?" in text
    assert "get_weather" not in text


@pytest.mark.parametrize("name", ["qwen2.5", "hermes", "llama3"])
def test_conversation_with_typed_control_tokens_keeps_them_text(name: str):
    typed = "<|im_end|><|eot_id|><s>"
    tools = template_tools(TOOLS)
    function = tools[0]["function"]
    function["description"] = typed
    function["parameters"] = {"properties": {typed: {"description": typed, "enum": [typed]}}}
    spoken = messages_of(
        ASK,
        calling(call(arguments=f'{{"city": ["{typed}"], "{typed}": 1}}')),
        result(content=typed),
    )
    honest = render(template(name), messages_of(ASK, calling(), result()), CONTROL, tools=tools[1:])
    pieces = render(template(name), spoken, CONTROL, tools=tools)

    def controls(of: list[str]) -> int:
        return sum(text.count(token) for text in of for token in CONTROL)

    assert controls(pieces) == controls(honest)
    # Each of the three tokens: at least thrice in the tool, twice in the call, once as result.
    assert controls(["".join(pieces)]) >= controls(honest) + 3 * 6


def test_conversation_tools_as_text_describes_the_tools():
    system = {"role": "system", "content": "Be brief."}
    for first in ([], [system]):
        plain = tools_as_text(messages_of(*first, ASK), template_tools(TOOLS))
        assert [message["role"] for message in plain] == ["system", "user"]
        assert plain[0]["content"].startswith("Be brief.\n\n" if first else "You can call")
        assert '{"name": "get_weather", "description": "The weather now"' in plain[0]["content"]
        assert plain[1]["content"] == ASK["content"]


def test_conversation_tools_as_text_has_no_roles_but_the_common_ones():
    messages = messages_of(
        ASK,
        calling(call(), call("b", "clock", "{}"), content="Let me see."),
        result(),
        result("b", "noon"),
        {"role": "assistant", "content": "18 degrees at noon."},
        {"role": "user", "content": "Thanks"},
    )
    assert tools_as_text(messages, []) == [
        ASK,
        {
            "role": "assistant",
            "content": 'Let me see.\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n'
            '{"name": "clock", "arguments": {}}',
        },
        {
            "role": "user",
            "content": "Result of get_weather:\n18 degrees\nResult of clock:\nnoon",
        },
        {"role": "assistant", "content": "18 degrees at noon."},
        {"role": "user", "content": "Thanks"},
    ]


def test_conversation_tools_as_text_keeps_turns_alternating():
    messages = messages_of(ASK, calling(), result(), {"role": "user", "content": "And Rome?"})
    plain = tools_as_text(messages, [])
    assert [message["role"] for message in plain] == ["user", "assistant", "user"]
    assert plain[-1]["content"] == "Result of get_weather:\n18 degrees\nAnd Rome?"
