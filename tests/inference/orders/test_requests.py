"""The bounds of every parameter, at and just beyond them."""

from typing import Any

import msgspec
import pytest

from inference.errors import InvalidRequestError
from inference.orders.parsing import parse
from inference.orders.requests import (
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    Message,
    TextPart,
)

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "x"}
EMBEDDINGS: dict[str, Any] = {"model": "m", "input": "x"}


@pytest.mark.parametrize("kind_and_body", [(ChatRequest, CHAT), (CompletionRequest, COMPLETION)])
@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [0, 2, 0.5, None], [-0.01, 2.01]),
        ("top_p", [0, 5e-324, 1, None], [1.01, -0.01]),
        ("top_k", [0, 1, 10_000_000, None], [-1, 10_000_001, 1.5]),
        ("min_p", [0, 1, None], [-0.01, 1.01]),
        ("presence_penalty", [-2, 2, None], [-2.01, 2.01]),
        ("frequency_penalty", [-2, 2, None], [-2.01, 2.01]),
        ("repeat_penalty", [0.01, 10, None], [0, 5e-324, 10.1]),
        ("seed", [-(2**63), 2**63 - 1, None], [2**63, -(2**63) - 1, 1.5]),
        ("max_tokens", [-1, 0, 1, 10_000_000, None], [-2, 10_000_001]),
        ("n", [1, 128, None], [0, 129]),
        ("stop", ["x", ["x"] * 16, [], None], [[""], ["x"] * 17]),
        ("logit_bias", [{"1": 100}, {"1": -100}, {}, None], [{"1": 101}, {"1": -101}]),
        ("user", ["x" * 200, "", None], ["x" * 201, "\0"]),
        ("priority", [1, 3, None], [0, 4]),
        ("service_type", ["chat", "embedding", "summary", None], ["other", ""]),
        ("model", ["m" * 200], ["", "m" * 201, "a\0"]),
        ("ignore_eos", [True, False, None], [1, "true"]),
        ("stream", [True, False, None], [1, "true"]),
    ],
)
def test_schema_bounds(
    kind_and_body: tuple[Any, dict[str, Any]], name: str, good: list[Any], bad: list[Any]
):
    kind, body = kind_and_body
    for value in good:
        assert getattr(parse({**body, name: value}, kind), name) == value
    for value in bad:
        with pytest.raises(InvalidRequestError) as error:
            parse({**body, name: value}, kind)
        assert (error.value.param or "").partition("[")[0] == name


@pytest.mark.parametrize(
    ("kind", "body", "name", "good", "bad"),
    [
        (ChatRequest, CHAT, "top_logprobs", [0, 20], [-1, 21]),
        (ChatRequest, CHAT, "logprobs", [True, False, None], [1]),
        (ChatRequest, CHAT, "max_completion_tokens", [-1, 1], [-2]),
        (CompletionRequest, COMPLETION, "logprobs", [0, 20], [-1, 21, True]),
        (CompletionRequest, COMPLETION, "prompt", ["", ["x"] * 128, [1] * 5000], [[], [[[1]]]]),
        (EmbeddingsRequest, EMBEDDINGS, "input", ["x", ["x"] * 2048, [1] * 5000], [[], [-1]]),
        (EmbeddingsRequest, EMBEDDINGS, "encoding_format", ["float", "base64"], ["int8"]),
        (EmbeddingsRequest, EMBEDDINGS, "dimensions", [1, None], [0]),
    ],
)
def test_schema_bounds_of_one_route(
    kind: Any, body: dict[str, Any], name: str, good: list[Any], bad: list[Any]
):
    for value in good:
        assert getattr(parse({**body, name: value}, kind), name) == value
    for value in bad:
        with pytest.raises(InvalidRequestError):
            parse({**body, name: value}, kind)


@pytest.mark.parametrize(
    ("stop", "stops"), [(None, ()), ("", ()), ("x", ("x",)), (["a", "b"], ("a", "b")), ([], ())]
)
def test_schema_stops_are_a_tuple(stop: Any, stops: tuple[str, ...]):
    assert parse({**CHAT, "stop": stop}, ChatRequest).stops == stops


def test_schema_usage_chunk_only_when_asked_for():
    def wants(options: Any) -> bool:
        return parse({**CHAT, "stream_options": options}, ChatRequest).wants_usage_chunk

    assert wants({"include_usage": True})
    assert not wants({"include_usage": False})
    assert not wants({})
    assert not wants(None)


def test_message_for_the_template_is_plain_text_in_an_old_role():
    message = Message(role="developer", content=[TextPart("a"), TextPart("b")])
    assert message.as_template_message() == {"role": "system", "content": "ab"}


def test_message_for_the_template_keeps_a_name():
    message = Message(role="user", content="x", name="ada")
    assert message.as_template_message() == {"role": "user", "content": "x", "name": "ada"}


def test_message_with_tool_calls_and_their_results_is_read():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    called = {"role": "assistant", "content": None, "tool_calls": calls}
    result = {"role": "tool", "tool_call_id": "1", "content": "x"}
    messages = parse({**CHAT, "messages": [called, result]}, ChatRequest).messages
    assert messages[0].tool_calls is not None
    assert messages[0].tool_calls[0].function.name == "f"
    assert messages[1].tool_call_id == "1"


@pytest.mark.parametrize(
    ("message", "content", "thoughts"),
    [
        ({"content": "x", "tool_calls": []}, "x", None),
        ({"content": None}, "", None),
        ({}, "", None),
        ({"content": []}, "", None),
        ({"content": None, "refusal": "no"}, "no", None),
        ({"content": [{"type": "refusal", "refusal": "no"}]}, "no", None),
        ({"content": "x", "annotations": [{"type": "url_citation"}], "audio": None}, "x", None),
        ({"content": "x", "function_call": None, "parsed": {"a": 1}}, "x", None),
        ({"content": "x", "reasoning_content": "why"}, "x", "why"),
        ({"content": "x", "reasoning": "why", "reasoning_details": [{"a": 1}]}, "x", "why"),
        ({"content": "x", "reasoning_content": "", "reasoning": "why"}, "x", "why"),
        (
            {"content": [{"type": "thinking", "thinking": "why"}, {"type": "text", "text": "x"}]},
            "x",
            "why",
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}]},
            "",
            "why",
        ),
    ],
)
def test_message_of_an_assistant_that_any_server_returned_is_read(
    message: dict[str, Any], content: str, thoughts: str | None
):
    body = {**CHAT, "messages": [CHAT["messages"][0], {"role": "assistant", **message}]}
    read = parse(body, ChatRequest).messages[1].as_template_message()
    assert read["content"] == content
    assert read.get("reasoning_content") == thoughts


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a":1}'), ([], "[]"), (None, ""), ("", "")],
)
def test_message_with_a_call_of_any_server_is_read(arguments: Any, text: str):
    call = {"id": "1", "function": {"name": "functions.f", "arguments": arguments}}
    message = {"role": "assistant", "tool_calls": [call]}
    (read,) = parse({**CHAT, "messages": [message]}, ChatRequest).messages
    assert read.tool_calls is not None
    assert read.tool_calls[0].function.arguments_text == text


@pytest.mark.parametrize(
    ("kind", "body"),
    [(ChatRequest, CHAT), (CompletionRequest, COMPLETION), (EmbeddingsRequest, EMBEDDINGS)],
)
def test_schema_takes_null_for_every_optional_parameter(kind: Any, body: dict[str, Any]):
    optional = [field.name for field in msgspec.structs.fields(kind) if not field.required]
    assert parse(body | dict.fromkeys(optional), kind) == parse(body, kind)


@pytest.mark.parametrize(
    "name", ["tools", "stop", "logit_bias", "modalities", "functions", "metadata"]
)
def test_schema_takes_an_empty_list_for_none(name: str):
    empty: Any = {} if name in ("logit_bias", "metadata") else []
    parse({**CHAT, name: empty}, ChatRequest)


@pytest.mark.parametrize(
    ("synonym", "own", "value"),
    [
        ("repetition_penalty", "repeat_penalty", 1.5),
        ("n_predict", "max_tokens", 5),
        ("num_predict", "max_tokens", -1),
    ],
)
def test_schema_reads_names_of_other_servers(synonym: str, own: str, value: float):
    assert getattr(parse({**CHAT, synonym: value}, ChatRequest), own) == value
    assert getattr(parse({**CHAT, synonym: value, own: value}, ChatRequest), own) == value
    for body in ({own: 2, synonym: value}, {synonym: -7}):
        with pytest.raises(InvalidRequestError) as error:
            parse(CHAT | body, ChatRequest)
        assert error.value.param == synonym


@pytest.mark.parametrize("name", ["f\n", "a b", ""])
def test_schema_takes_no_line_end_in_a_name(name: str):
    tool = {"type": "function", "function": {"name": name}}
    for fields in ({"tools": [tool]}, {"chat_template_kwargs": {name: 1}}):
        with pytest.raises(InvalidRequestError):
            parse(CHAT | fields, ChatRequest)
