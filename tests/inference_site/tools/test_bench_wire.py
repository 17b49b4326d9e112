import json
from typing import Any

import msgspec
import pytest

from inference_site.tools.bench.wire import (
    ErrorBody,
    EventSplitter,
    decode_frame,
    error_code_and_message,
    request_body,
)

STREAM = (
    b': heartbeat\n\ndata: {"a": 1}\n\nevent: x\ndata:{"b": "\xc3\xa9"}\r\n\r\ndata: [DONE]\n\n'
)
PAYLOADS = [b'{"a": 1}', b'{"b": "\xc3\xa9"}', b"[DONE]"]


def test_event_splitter_finds_payloads_in_one_read():
    assert EventSplitter().feed(STREAM) == PAYLOADS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_event_splitter_does_not_mind_where_reads_end(size):
    splitter = EventSplitter()
    found = [
        payload
        for start in range(0, len(STREAM), size)
        for payload in splitter.feed(STREAM[start : start + size])
    ]
    assert found == PAYLOADS


def test_frame_reads_text_of_every_form():
    chunk = decode_frame(b'{"id": "x", "choices": [{"index": 0, "delta": {"content": "a"}}]}')
    whole = decode_frame(b'{"choices": [{"message": {"role": "assistant", "content": "b"}}]}')
    completion = decode_frame(b'{"choices": [{"text": "c", "finish_reason": "stop"}]}')
    role = decode_frame(b'{"choices": [{"delta": {"role": "assistant", "content": null}}]}')
    texts = [frame.choices[0].content for frame in (chunk, whole, completion, role)]
    assert texts == ["a", "b", "c", ""]
    assert completion.choices[0].finish_reason == "stop"


def test_frame_reads_usage_with_and_without_cached_tokens():
    plain = decode_frame(b'{"usage": {"prompt_tokens": 5, "completion_tokens": 2}}').usage
    cached = decode_frame(b'{"usage": {"prompt_tokens_details": {"cached_tokens": 3}}}').usage
    unknown = decode_frame(b'{"usage": {"prompt_tokens_details": {"cached_tokens": null}}}').usage
    assert plain is not None
    assert cached is not None
    assert unknown is not None
    assert (plain.prompt_tokens, plain.completion_tokens, plain.cached_tokens) == (5, 2, 0)
    assert (cached.cached_tokens, unknown.cached_tokens) == (3, 0)


def test_frame_that_is_not_json_is_refused():
    with pytest.raises(msgspec.DecodeError):
        decode_frame(b"<html>")


def test_error_is_read_as_object_and_as_text():
    assert error_code_and_message("broken") == ("", "broken")
    assert error_code_and_message(ErrorBody("full", "queue_full")) == ("queue_full", "full")
    assert error_code_and_message(ErrorBody("bad", 400)) == ("400", "bad")
    assert error_code_and_message(ErrorBody("bad", None, "server_error")) == ("server_error", "bad")


def body(**changes):
    settings: dict[str, Any] = {
        "endpoint": "chat",
        "model": "m",
        "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}],
        "max_tokens": 5,
        "temperature": 0.0,
        "stream": True,
        "priority": None,
    }
    return json.loads(request_body(**(settings | changes)))


def test_request_body_of_a_streamed_chat_asks_for_usage():
    made = body()
    assert made["stream"] is True
    assert made["stream_options"] == {"include_usage": True}
    assert (made["max_tokens"], made["temperature"]) == (5, 0.0)
    assert "priority" not in made


def test_request_body_leaves_out_what_is_not_set():
    made = body(stream=False, max_tokens=None, temperature=None)
    assert set(made) == {"model", "messages"}


def test_request_body_of_a_completion_joins_the_texts():
    assert body(endpoint="completions", priority=3)["prompt"] == "a\n\nb"
    assert body(priority=3)["priority"] == 3
