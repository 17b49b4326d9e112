"""Frames as OpenAI's objects, checked against the SDK's own types."""

from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.answers.openai import Answer, ChatFormat, CompletionFormat, usage_object
from inference.messages import Delta, Finished, Kind, RunHeader, TokenLogprob, Usage

LOGPROB = TokenLogprob("hé", "hé".encode(), -0.5, [("hé", "hé".encode(), -0.5), ("x", b"x", -2.0)])


def header(kind: Kind = "chat", choices: int = 1, **fields: Any) -> RunHeader:
    return RunHeader(
        id="chatcmpl-1",
        kind=kind,
        user_id=1,
        model="m",
        version_key="m@v",
        created_unix_seconds=1_700_000_000,
        choices=choices,
        **fields,
    )


def chunks_of(format_: Any, choices: int = 1) -> list[dict[str, Any]]:
    """The chunks of a stream with one delta for each choice."""
    chunks = [format_.opening(choice) for choice in range(choices)]
    for choice in range(choices):
        chunks.append(format_.delta(choice, Delta("hé", [1], [LOGPROB])))
        chunks.append(format_.finish(choice, Finished("stop", Usage(3, 1))))
    return [chunk for chunk in chunks if chunk is not None]


def test_chat_chunks_are_what_the_sdk_reads():
    for chunk in chunks_of(ChatFormat(header(with_logprobs=True, include_usage=True)), 2):
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_chat_chunks_have_the_role_once_per_choice():
    chunks = chunks_of(ChatFormat(header(choices=2)), 2)
    roles = [c["choices"][0]["index"] for c in chunks if "role" in c["choices"][0]["delta"]]
    assert roles == [0, 1]


def test_chunks_share_id_and_time():
    format_ = ChatFormat(header(choices=2))
    chunks = [*chunks_of(format_, 2), format_.usage(Usage(1, 1))]
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("chatcmpl-1", 1_700_000_000, "m")
    }


@pytest.mark.parametrize(
    ("reason", "shown"), [("stop", "stop"), ("length", "length"), ("cancelled", "stop")]
)
def test_chat_finish_chunk_has_an_empty_delta(reason: Any, shown: str):
    choice = ChatFormat(header()).finish(0, Finished(reason, Usage(3, 1)))["choices"][0]
    assert choice == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": shown}


def test_usage_is_null_in_every_chunk_and_last_alone():
    format_ = ChatFormat(header(include_usage=True))
    assert all(chunk["usage"] is None for chunk in chunks_of(format_))
    last = format_.usage(Usage(3, 2, 1))
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5
    ChatCompletionChunk.model_validate(last, strict=True)


def test_usage_is_no_key_of_a_chunk_unless_asked_for():
    assert all("usage" not in chunk for chunk in chunks_of(ChatFormat(header())))


def test_usage_object_adds_up():
    usage = Usage(7, 3, cached_tokens=4, drafted_tokens=5, accepted_tokens=2)
    assert usage_object(usage) == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 2,
            "rejected_prediction_tokens": 3,
        },
    }


@pytest.mark.parametrize("kind", [ChatFormat, CompletionFormat])
def test_delta_without_text_is_not_sent(kind: Any):
    assert kind(header()).delta(0, Delta("", [1])) is None


def test_delta_of_logprobs_without_text_is_sent():
    chunk = ChatFormat(header(with_logprobs=True)).delta(0, Delta("", [1], [LOGPROB]))
    assert chunk is not None
    assert chunk["choices"][0]["logprobs"]["content"]


def test_chat_logprobs_carry_bytes_and_alternatives():
    chunk = ChatFormat(header(with_logprobs=True)).delta(0, Delta("hé", [1], [LOGPROB]))
    assert chunk is not None
    assert chunk["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "hé",
                "logprob": -0.5,
                "bytes": [104, 195, 169],
                "top_logprobs": [
                    {"token": "hé", "logprob": -0.5, "bytes": [104, 195, 169]},
                    {"token": "x", "logprob": -2.0, "bytes": [120]},
                ],
            }
        ],
        "refusal": None,
    }


def test_chat_whole_answer_is_what_the_sdk_reads():
    first, second = Answer(), Answer()
    for frame in (Delta("a", [1], [LOGPROB]), Delta("b", [2]), Finished("length", Usage(3, 2))):
        first.take(frame)
    second.take(Finished("cancelled", Usage(3, 0)))
    whole = ChatFormat(header(choices=2, with_logprobs=True)).whole([first, second], Usage(3, 2))
    answer = ChatCompletion.model_validate(whole, strict=True)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.content == "ab"
    assert [choice.finish_reason for choice in answer.choices] == ["length", "stop"]


def test_completion_has_no_opening_chunk():
    format_ = CompletionFormat(header("completion"))
    format_.opening(0)
    (delta, finish) = chunks_of(format_)
    assert delta["choices"][0]["text"] == "hé"
    assert finish["choices"][0] == {
        "index": 0,
        "text": "",
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_completion_whole_answer_is_what_the_sdk_reads():
    answer = Answer()
    answer.take(Delta("hé", [1], [LOGPROB]))
    answer.take(Finished("stop", Usage(3, 1)))
    format_ = CompletionFormat(header("completion", with_logprobs=True))
    whole = format_.whole([answer], Usage(3, 1))
    read = Completion.model_validate(whole)
    assert read.choices[0].logprobs is not None
    assert read.choices[0].logprobs.tokens == ["hé"]
    assert read.choices[0].logprobs.top_logprobs == [{"hé": -0.5, "x": -2.0}]
