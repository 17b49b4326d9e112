"""``POST /v1/completions``."""

from pathlib import Path
from typing import Any

import pytest

from inference.api.openai.completions import completion_order
from inference.database import in_database
from inference.orders.parsing import parse
from inference.orders.requests import CompletionRequest
from inference.runs.runtime import Runtime
from tests.stack import Api, FakeModel, body_of, register_version, sse_events

PATH = "/v1/completions"


def completion(model: FakeModel, prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"model": model.slug, "prompt": prompt, **fields}


async def test_completion_answers_with_text(api: Api, model: FakeModel):
    model.say(" there")
    content = (await api.post(PATH, completion(model, "Hello"))).json()
    assert content["object"] == "text_completion"
    assert content["id"].startswith("cmpl-")
    (choice,) = content["choices"]
    assert choice == {"index": 0, "text": " there", "logprobs": None, "finish_reason": "stop"}
    assert content["usage"]["completion_tokens"] == 7


async def test_completion_has_sixteen_tokens_unless_asked_for_more(api: Api, model: FakeModel):
    content = (await api.post(PATH, completion(model, "Hello"))).json()
    assert content["usage"]["completion_tokens"] == 16
    assert content["choices"][0]["finish_reason"] == "length"


async def test_completion_of_many_prompts_numbers_choices_prompt_by_prompt(
    api: Api, model: FakeModel
):
    async def text(prompt: Any) -> list[str]:
        choices = (await api.post(PATH, completion(model, prompt, n=2))).json()["choices"]
        assert [choice["index"] for choice in choices] == list(range(len(choices)))
        return [choice["text"] for choice in choices]

    one, two = await text("One"), await text("Two")
    assert one[0] != two[0]
    assert await text(["One", "Two"]) == one + two


async def test_completion_usage_counts_each_prompt_once(api: Api, model: FakeModel):
    async def usage(prompt: Any, n: int = 1) -> dict[str, int]:
        response = await api.post(PATH, completion(model, prompt, n=n, max_tokens=2))
        return response.json()["usage"]

    single = await usage("One")
    many = await usage(["One", "One"], n=2)
    assert many["prompt_tokens"] == 2 * single["prompt_tokens"]
    assert many["completion_tokens"] == 8


async def test_completion_of_token_ids_equals_that_of_their_text(api: Api, model: FakeModel):
    tokens = (
        await api.post("/v1/tokenize", {"model": model.slug, "content": "Hello world"})
    ).json()["tokens"]
    texts = []
    for prompt in ("Hello world", tokens, [tokens]):
        choices = (await api.post(PATH, completion(model, prompt))).json()["choices"]
        texts.append([choice["text"] for choice in choices])
    assert texts[0] == texts[1] == texts[2]


async def test_completion_of_two_lists_of_token_ids_has_two_choices(api: Api, model: FakeModel):
    response = await api.post(PATH, completion(model, [[1, 2], [3]], max_tokens=1))
    assert len(response.json()["choices"]) == 2


@pytest.mark.parametrize(
    "prompt", ["", [], [""], [[]], ["a", 1], [1, [2]], ["a", ""], [10**6], [[1, 10**6]], [-1], 1]
)
async def test_completion_of_a_prompt_that_is_none_is_400(
    api: Api, model: FakeModel, prompt: object
):
    response = await api.post(PATH, completion(model, prompt))
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("prompt")


@pytest.mark.parametrize("character", ["\0", "\ufdd0", "\ufdd1"])
async def test_completion_of_characters_that_no_model_reads_is_400(
    api: Api, model: FakeModel, character: str
):
    response = await api.post(PATH, completion(model, f"a{character}b"))
    assert response.status_code == 400


async def test_completion_logprobs_have_the_legacy_shape(api: Api, model: FakeModel):
    model.say("abc")
    content = (await api.post(PATH, completion(model, "Hi", logprobs=2))).json()
    logprobs = content["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["a", "b", "c"]
    assert logprobs["text_offset"] == [0, 1, 2]
    assert all(value <= 0 for value in logprobs["token_logprobs"])
    assert [len(top) for top in logprobs["top_logprobs"]] == [2, 2, 2]
    assert logprobs["top_logprobs"][0]["a"] == logprobs["token_logprobs"][0]


async def test_completion_streams_text_and_a_last_chunk(api: Api, model: FakeModel):
    model.say("abc")
    body = completion(model, "Hi", stream=True, logprobs=0)
    body["stream_options"] = {"include_usage": True}
    *chunks, usage, done = sse_events(await body_of(await api.post(PATH, body)))
    assert done == "[DONE]"
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "abc"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    offsets = [
        offset for chunk in chunks for offset in chunk["choices"][0]["logprobs"]["text_offset"]
    ]
    assert offsets == [0, 1, 2]


async def test_completion_of_too_many_answers_is_400(api: Api, model: FakeModel):
    for body in (completion(model, ["x"] * 51), completion(model, ["x"] * 26, n=2)):
        response = await api.post(PATH, body)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "prompt"
    response = await api.post(PATH, completion(model, "x", n=51))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "n")


async def test_completion_reads_marks_of_the_template_only_where_it_is_one(
    database: None, service: Runtime, smollm2_path: Path
):
    fields = {"chat_template": "{{ messages }}<|im_end|>"}
    version = await in_database(register_version, smollm2_path, **fields)

    async def prompt_tokens(**fields: Any) -> int:
        body = {"model": version.model.slug, "prompt": "<|im_end|>", **fields}
        order = await completion_order(service, parse(body, CompletionRequest))
        return len(order.prompts[0])

    assert await prompt_tokens() > await prompt_tokens(parse_special=True) == 1


async def test_completion_of_many_token_ids_is_one_prompt(api: Api, model: FakeModel):
    response = await api.post(PATH, completion(model, [65] * 300, max_tokens=1))
    assert response.json()["usage"]["prompt_tokens"] == 300


async def test_completion_of_no_tokens_has_a_usage(api: Api, model: FakeModel):
    content = (await api.post(PATH, completion(model, "Hello", max_tokens=0))).json()
    assert content["choices"][0]["finish_reason"] == "length"
    assert content["usage"]["completion_tokens"] == 0


async def test_completion_logprobs_count_characters_made_of_several_tokens(
    api: Api, model: FakeModel
):
    model.say("aé€b")
    content = (await api.post(PATH, completion(model, "Hi", logprobs=0))).json()
    choice = content["choices"][0]
    assert choice["text"] == "aé€b"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("field", "value"), [("echo", True), ("suffix", "x"), ("best_of", 2), ("logprobs", 99)]
)
async def test_completion_refuses_what_it_does_not_support(
    api: Api, model: FakeModel, field: str, value: object
):
    response = await api.post(PATH, completion(model, "x", **{field: value}))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
