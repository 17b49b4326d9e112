"""Frames with calls as OpenAI's objects, checked against the SDK's own types."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.answers.openai import Answer, ChatFormat
from inference.answers.tool_calls import ToolChatFormat, call_id, chat_format
from inference.messages import Delta, Finished, RunHeader, TokenLogprob, Usage
from inference.orders.tools.syntax import CallSyntax, SyntaxName
from tests.inference.orders.tools.examples import HERMES_CALL, HERMES_CLOCK, JSON_CALL, NAMES


def header(name: SyntaxName = "hermes", choices: int = 1, **fields: Any) -> RunHeader:
    return RunHeader(
        id="chatcmpl-1",
        kind="chat",
        user_id=1,
        model="m",
        version_key="m@v",
        created_unix_seconds=1_700_000_000,
        choices=choices,
        call_syntax=CallSyntax(name, NAMES).encoded(),
        **fields,
    )


def logprob(character: str) -> TokenLogprob:
    return TokenLogprob(character, character.encode(), -0.5)


def deltas(text: str) -> list[Delta]:
    """A frame for each character, with logprobs."""
    return [Delta(character, [1], [logprob(character)]) for character in text]


def streamed(text: str, reason: Any = "stop", **fields: Any) -> list[dict[str, Any]]:
    """The choices of a stream's chunks."""
    format_ = ToolChatFormat(header(**fields))
    chunks = [format_.opening(0), *(format_.delta(0, frame) for frame in deltas(text))]
    chunks.append(format_.finish(0, Finished(reason, Usage(3, 1))))
    for chunk in filter(None, chunks):
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return [chunk["choices"][0] for chunk in chunks if chunk is not None]


def whole(text: str, reason: Any = "stop", **fields: Any) -> dict[str, Any]:
    """The choice of a whole answer."""
    answer = Answer()
    for frame in (*deltas(text), Finished(reason, Usage(3, 1))):
        answer.take(frame)
    response = ToolChatFormat(header(**fields)).whole([answer], Usage(3, 1))
    ChatCompletion.model_validate(response, strict=True)
    choice: dict[str, Any] = response["choices"][0]
    return choice


def test_format_streams_a_call_with_its_id_and_name_once():
    choices = streamed(f"Look.\n{HERMES_CALL}\n{HERMES_CLOCK}")
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    pieces = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert content == "Look.\n"
    first, second = ([piece for piece in pieces if piece["index"] == index] for index in (0, 1))
    assert len(first) > 10
    for calls, name, arguments in (
        (first, "get_weather", {"city": "Paris"}),
        (second, "clock", {}),
    ):
        assert [piece["function"].get("name") for piece in calls if "id" in piece] == [name]
        assert [piece["type"] for piece in calls if "type" in piece] == ["function"]
        assert json.loads("".join(piece["function"]["arguments"] for piece in calls)) == arguments
        assert "id" in calls[0]
    assert choices[0]["delta"] == {"role": "assistant", "content": None}
    assert choices[-1] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_format_makes_at_most_one_chunk_of_a_frame():
    format_ = ToolChatFormat(header())
    chunk = format_.delta(0, Delta(f"Hi\n{HERMES_CALL}\n{HERMES_CLOCK}", [1]))
    assert chunk is not None
    delta = chunk["choices"][0]["delta"]
    assert delta["content"] == "Hi\n"
    assert [call["index"] for call in delta["tool_calls"]] == [0, 1]
    assert delta["tool_calls"][0]["function"] == {
        "name": "get_weather",
        "arguments": '{"city": "Paris"}',
    }


def test_format_of_a_whole_call():
    choice = whole(f"{HERMES_CALL}\n{HERMES_CLOCK}")
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {
            "id": call_id("chatcmpl-1", 0, 0),
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        },
        {
            "id": call_id("chatcmpl-1", 0, 1),
            "type": "function",
            "function": {"name": "clock", "arguments": "{}"},
        },
    ]


def test_format_of_an_answer_without_calls_is_that_without_tools():
    frames = [*deltas("Hello"), Finished("stop", Usage(3, 1))]
    answer = Answer()
    for frame in frames:
        answer.take(frame)
    with_tools = header(with_logprobs=True)
    plain = ChatFormat(with_tools).whole([answer], Usage(3, 1))
    assert ToolChatFormat(with_tools).whole([answer], Usage(3, 1)) == plain
    assert whole("")["message"] == {"role": "assistant", "content": "", "refusal": None}


@pytest.mark.parametrize(
    ("text", "reason", "shown"),
    [
        (HERMES_CALL, "stop", "tool_calls"),
        (HERMES_CALL, "length", "length"),
        (HERMES_CALL[:60], "length", "length"),
        # Cut by a stop string: no caller should run it.
        (HERMES_CALL[:60], "stop", "stop"),
        (HERMES_CALL, "cancelled", "stop"),
        ("Hello", "stop", "stop"),
    ],
)
def test_format_says_why_an_answer_ended(text: str, reason: str, shown: str):
    assert whole(text, reason)["finish_reason"] == shown
    assert streamed(text, reason)[-1]["finish_reason"] == shown


def test_format_keeps_the_arguments_of_a_call_that_is_cut():
    call = whole(HERMES_CALL[:60], "length")["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == HERMES_CALL[HERMES_CALL.index('{"city') : 60]


def test_format_returns_held_text_at_the_end():
    last = streamed("<tool_call>\nno", "length")[-1]
    assert (last["delta"], last["finish_reason"]) == ({}, "length")
    held = streamed(JSON_CALL[:-5], "length")[-1]
    assert held["delta"] == {"content": JSON_CALL[:-5]}
    assert held["finish_reason"] == "length"


def test_format_has_logprobs_of_content_alone():
    choices = streamed(f"Hé{HERMES_CALL}", with_logprobs=True)
    entries = [
        entry["token"]
        for choice in choices
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert entries == ["H", "é"]
    assert all(choice["logprobs"] is None for choice in choices if "tool_calls" in choice["delta"])
    shown = whole(f"Hé{HERMES_CALL}", with_logprobs=True)["logprobs"]["content"]
    assert [entry["token"] for entry in shown] == ["H", "é"]
    assert whole(HERMES_CALL, with_logprobs=True)["logprobs"] is None


def test_format_has_all_logprobs_of_content_that_was_held_back():
    choices = streamed("a <tool_ b", with_logprobs=True)
    entries = [
        entry["token"]
        for choice in choices
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert "".join(entries) == "a <tool_ b"


def test_format_gives_every_call_an_id_of_its_own_and_always_the_same():
    ids = [call_id(run, choice, index) for run in "ab" for choice in (0, 1) for index in (0, 1)]
    assert len(set(ids)) == 8
    assert all(id_.startswith("call_") and len(id_) == 29 for id_ in ids)
    assert ids[0] == call_id("a", 0, 0)


def test_format_reads_the_choices_apart():
    format_ = ToolChatFormat(header(choices=2))
    for piece in (HERMES_CALL[:30], HERMES_CALL[30:]):
        chunks = [format_.delta(choice, Delta(piece, [1])) for choice in (0, 1)]
    ids = []
    for choice, chunk in enumerate(chunks):
        assert chunk is not None
        assert chunk["choices"][0]["index"] == choice
        ids.append(chunk["choices"][0]["delta"]["tool_calls"][0]["id"])
    assert len(set(ids)) == 2


def test_format_is_chosen_by_the_header():
    assert isinstance(chat_format(header()), ToolChatFormat)
    plain = RunHeader("chatcmpl-1", "chat", 1, "m", "m@v", 1_700_000_000, 1)
    assert type(chat_format(plain)) is ChatFormat
