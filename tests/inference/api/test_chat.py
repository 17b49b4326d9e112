"""``POST /v1/chat/completions`` against a host in this process."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.stack import Api, FakeModel, body_of, record_of, sse_events


def chat(model: FakeModel, **fields: Any) -> dict[str, Any]:
    return {"model": model.slug, "messages": [{"role": "user", "content": "Hi"}], **fields}


async def test_chat_answers_with_one_object(api: Api, model: FakeModel):
    model.say("Grüße, world")
    response = await api.post("/v1/chat/completions", chat(model))
    assert response.status_code == 200
    content = response.json()
    assert content["object"] == "chat.completion"
    assert content["id"].startswith("chatcmpl-")
    assert content["model"] == model.slug
    (choice,) = content["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Grüße, world", "refusal": None}
    assert choice["finish_reason"] == "stop"
    usage = content["usage"]
    # The token that ends the answer was generated too.
    assert usage["completion_tokens"] == len("Grüße, world".encode()) + 1
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_chat_is_recorded_for_its_user_and_end_user(api: Api, model: FakeModel):
    model.say("ok")
    response = await api.post("/v1/chat/completions", chat(model, user="end-user-7"))
    record = await record_of(response.json()["id"])
    assert (record.outcome, record.user_id, record.end_user) == (
        "finished",
        api.user.pk,
        "end-user-7",
    )
    assert record.version_key == model.key
    assert record.completion_tokens == 3


async def test_chat_of_a_user_name_with_a_nul_is_refused(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, user="a\0b"))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "user"


async def test_chat_ends_at_max_tokens(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, max_tokens=5))
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 5


async def test_chat_takes_max_completion_tokens_as_the_newer_name(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, max_completion_tokens=4))
    assert response.json()["usage"]["completion_tokens"] == 4


async def test_chat_with_both_names_of_max_tokens_is_refused(api: Api, model: FakeModel):
    body = chat(model, max_completion_tokens=4, max_tokens=5)
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "max_tokens"
    same = await api.post("/v1/chat/completions", body | {"max_tokens": 4})
    assert same.json()["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_chat_with_minus_one_as_max_tokens_has_all_the_room(
    api: Api, model: FakeModel, name: str
):
    model.say("a" * 40)
    response = await api.post("/v1/chat/completions", chat(model, **{name: -1}))
    assert response.json()["choices"][0]["finish_reason"] == "stop"
    refused = await api.post("/v1/chat/completions", chat(model, **{name: 0}))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


async def test_chat_names_hints_in_a_header_and_once_per_key_in_the_log(
    api: Api, model: FakeModel, caplog: pytest.LogCaptureFixture
):
    body = chat(model, max_tokens=2, store=True, metadata={}, prompt_cache_key="k", user="u")
    with caplog.at_level("INFO", logger="inference.api.ignored"):
        for _ in range(2):
            response = await api.post("/v1/chat/completions", body)
            assert response.status_code == 200
            assert response["Brigade-Ignored"] == "store, prompt_cache_key"
    assert [message.rpartition(": ")[2] for message in caplog.messages] == [
        "store",
        "prompt_cache_key",
    ]
    response = await api.post("/v1/chat/completions", body | {"stream": True})
    assert response["Brigade-Ignored"] == "store, prompt_cache_key"
    await body_of(response)
    plain = await api.post("/v1/chat/completions", chat(model, max_tokens=2))
    assert "Brigade-Ignored" not in plain


async def test_chat_names_variables_that_the_template_does_not_read(api: Api, model: FakeModel):
    fields = {"reasoning_effort": "low", "chat_template_kwargs": {"custom": 1}}
    response = await api.post("/v1/chat/completions", chat(model, max_tokens=2, **fields))
    assert response["Brigade-Ignored"] == "reasoning_effort, chat_template_kwargs.custom"


async def test_chat_refuses_hints_where_parameters_are_strict(
    api: Api, model: FakeModel, settings: Any
):
    settings.INFERENCE = replace(settings.INFERENCE, strict_parameters=True)
    for fields in ({"store": True}, {"reasoning_effort": "low"}):
        response = await api.post("/v1/chat/completions", chat(model, max_tokens=2, **fields))
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "unsupported_parameter")
        assert error["param"] in fields


async def test_chat_stops_before_a_stop_string(api: Api, model: FakeModel):
    model.say("one two three")
    response = await api.post("/v1/chat/completions", chat(model, stop=["two", "never"]))
    choice = response.json()["choices"][0]
    assert choice["message"]["content"] == "one "
    assert choice["finish_reason"] == "stop"


async def test_chat_gives_n_choices_and_counts_the_prompt_once(api: Api, model: FakeModel):
    one = (await api.post("/v1/chat/completions", chat(model, max_tokens=6))).json()
    three = (await api.post("/v1/chat/completions", chat(model, max_tokens=6, n=3))).json()
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert three["usage"]["completion_tokens"] == 18


async def test_chat_choices_differ_by_seed_and_repeat_with_it(api: Api, model: FakeModel):
    body = chat(model, max_tokens=12, n=3, temperature=2, seed=7)
    first = (await api.post("/v1/chat/completions", body)).json()["choices"]
    second = (await api.post("/v1/chat/completions", body)).json()["choices"]
    texts = [choice["message"]["content"] for choice in first]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in second]


async def test_chat_logprobs_cover_the_text_token_by_token(api: Api, model: FakeModel):
    model.say("né")
    body = chat(model, logprobs=True, top_logprobs=2)
    choice = (await api.post("/v1/chat/completions", body)).json()["choices"][0]
    entries = choice["logprobs"]["content"]
    assert bytes(byte for entry in entries for byte in entry["bytes"]).decode() == "né"
    for entry in entries:
        assert len(entry["top_logprobs"]) == 2
        assert entry["logprob"] <= 0
        assert entry["top_logprobs"][0]["logprob"] == entry["logprob"]


async def test_chat_without_logprobs_has_null(api: Api, model: FakeModel):
    model.say("x")
    choice = (await api.post("/v1/chat/completions", chat(model))).json()["choices"][0]
    assert choice["logprobs"] is None


async def test_chat_top_logprobs_without_logprobs_is_refused(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, top_logprobs=2))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "top_logprobs"


async def test_chat_obeys_logit_bias(api: Api, model: FakeModel):
    bias = {str(ord("z")): 100}
    response = await api.post("/v1/chat/completions", chat(model, logit_bias=bias, max_tokens=3))
    assert response.json()["choices"][0]["message"]["content"] == "zzz"


async def test_chat_logit_bias_for_an_absurd_token_id_is_refused(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, logit_bias={"9" * 5000: 1}))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "logit_bias"


async def test_chat_takes_an_answer_back_as_the_sdk_dumps_it(api: Api, model: FakeModel):
    model.say("ok")
    answer = {
        "role": "assistant",
        "content": "Hello",
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    messages = [{"role": "user", "content": "Hi"}, answer, {"role": "user", "content": "Go on"}]
    response = await api.post("/v1/chat/completions", {"model": model.slug, "messages": messages})
    assert response.status_code == 200, response.content


async def test_chat_streams_in_the_order_the_sdk_expects(api: Api, model: FakeModel):
    model.say("Héllo")
    body = chat(model, stream=True, stream_options={"include_usage": True})
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    *chunks, done = sse_events(await body_of(response))
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    *content, last = chunks
    assert all(chunk["usage"] is None for chunk in content)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 7
    deltas = [chunk["choices"][0] for chunk in content]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in choice["delta"] for choice in deltas[1:])
    assert "".join(choice["delta"].get("content", "") for choice in deltas) == "Héllo"
    assert deltas[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in deltas] == [None] * (len(deltas) - 1) + ["stop"]


async def test_chat_stream_without_usage_has_no_usage_key(api: Api, model: FakeModel):
    model.say("x")
    response = await api.post("/v1/chat/completions", chat(model, stream=True))
    *chunks, _ = sse_events(await body_of(response))
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)


async def test_chat_stream_of_n_opens_choices_in_order_and_ends_each_once(
    api: Api, model: FakeModel
):
    body = chat(model, stream=True, n=3, max_tokens=4)
    *chunks, _ = sse_events(await body_of(await api.post("/v1/chat/completions", body)))
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices[:3]] == [0, 1, 2]
    assert [choice["index"] for choice in choices if "role" in choice["delta"]] == [0, 1, 2]
    ends = sorted(choice["index"] for choice in choices if choice["finish_reason"])
    assert ends == [0, 1, 2]


async def test_chat_stream_logprobs_are_those_of_the_whole_answer(api: Api, model: FakeModel):
    body = chat(model, logprobs=True, top_logprobs=1, max_tokens=5)
    whole = (await api.post("/v1/chat/completions", body)).json()["choices"][0]["logprobs"]
    response = await api.post("/v1/chat/completions", {**body, "stream": True})
    *chunks, _ = sse_events(await body_of(response))
    streamed = [
        entry
        for chunk in chunks
        if (logprobs := chunk["choices"][0]["logprobs"])
        for entry in logprobs["content"]
    ]
    assert streamed == whole["content"]


async def test_chat_streams_say_where_to_resume(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, stream=True, n=2, max_tokens=3))
    ids = [line for line in (await body_of(response)).split(b"\n") if line.startswith(b"id: ")]
    positions = [tuple(int(part) for part in line[4:].split(b",")) for line in ids]
    assert all(len(position) == 2 for position in positions)
    assert positions == sorted(positions)
    assert min(positions[-1]) >= 3


async def test_chat_stream_options_without_stream_are_refused(api: Api, model: FakeModel):
    body = chat(model, stream_options={"include_usage": True})
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "stream_options"


async def test_chat_many_at_once_do_not_mix(api: Api, model: FakeModel):
    async def ask(text: str) -> str:
        body = {
            "model": model.slug,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 20,
        }
        response = await api.post("/v1/chat/completions", body)
        return response.json()["choices"][0]["message"]["content"]

    texts = [f"Question {number}" for number in range(6)]
    alone = [await ask(text) for text in texts]
    assert len(set(alone)) == 6
    assert await asyncio.gather(*(ask(text) for text in texts)) == alone


async def test_chat_tokenises_control_words_of_a_user_as_text(api: Api, model: FakeModel):
    model.say("ok")
    messages = [{"role": "user", "content": "<|im_end|>"}]
    body = {"model": model.slug, "messages": messages}
    tokens = (await api.post("/v1/tokenize", body)).json()["tokens"]
    control = await api.post(
        "/v1/tokenize", {"model": model.slug, "content": "<|im_end|>", "parse_special": True}
    )
    assert len(control.json()["tokens"]) == 1
    assert control.json()["tokens"][0] not in tokens


async def test_chat_too_long_for_the_context_says_both_numbers(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model, max_tokens=5000))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["details"]["context_length"] == 2048
    assert error["details"]["max_tokens"] == 5000
    assert json.dumps(error["details"]["prompt_tokens"]) in error["message"]
