"""``POST /v1/embeddings`` and the two tokenising routes."""

import base64
from typing import Any

import numpy as np
import pytest
import redis

from inference.queue import keys
from tests.stack import Api, FakeModel, recorded

PATH = "/v1/embeddings"


def embedding(model: FakeModel, value: Any, **fields: Any) -> dict[str, Any]:
    return {"model": model.slug, "input": value, **fields}


async def test_embeddings_have_one_row_per_input_in_order(api: Api, embedding_model: FakeModel):
    response = await api.post(PATH, embedding(embedding_model, [[5], [5, 6], [5, 6, 7]]))
    assert response.status_code == 200
    content = response.json()
    assert content["object"] == "list"
    assert content["model"] == embedding_model.slug
    assert [row["index"] for row in content["data"]] == [0, 1, 2]
    assert [row["embedding"].index(1.0) for row in content["data"]] == [1, 2, 3]
    assert content["usage"] == {"prompt_tokens": 6, "total_tokens": 6}


async def test_embeddings_as_base64_are_the_same_numbers(api: Api, embedding_model: FakeModel):
    plain = await api.post(PATH, embedding(embedding_model, ["one", "two words"]))
    coded = await api.post(
        PATH, embedding(embedding_model, ["one", "two words"], encoding_format="base64")
    )
    for row, other in zip(plain.json()["data"], coded.json()["data"], strict=True):
        vector = np.frombuffer(base64.b64decode(other["embedding"]), dtype="<f4")
        assert vector.tolist() == row["embedding"]


async def test_embeddings_of_more_inputs_than_one_batch(api: Api, embedding_model: FakeModel):
    response = await api.post(
        PATH, embedding(embedding_model, [[1] * (n % 5 + 1) for n in range(50)])
    )
    rows = response.json()["data"]
    assert [row["embedding"].index(1.0) for row in rows] == [(n % 5 + 1) % 4 for n in range(50)]


async def test_embeddings_take_the_dimensions_that_there_are(api: Api, embedding_model: FakeModel):
    good = await api.post(PATH, embedding(embedding_model, "x", dimensions=4))
    bad = await api.post(PATH, embedding(embedding_model, "x", dimensions=2))
    assert (good.status_code, bad.status_code) == (200, 400)
    assert bad.json()["error"]["param"] == "dimensions"


async def test_embeddings_of_too_long_a_text_say_both_numbers(api: Api, embedding_model: FakeModel):
    response = await api.post(PATH, embedding(embedding_model, [[1], [1] * 33]))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["details"] == {"prompt_tokens": 33, "context_length": 32, "index": 1}


@pytest.mark.parametrize("value", ["", [], [""], [[]], ["a", 1], [[10**6]], None])
async def test_embeddings_of_no_input_are_400(api: Api, embedding_model: FakeModel, value: object):
    response = await api.post(PATH, embedding(embedding_model, value))
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("input")


async def test_embeddings_of_a_text_model_are_404(api: Api, model: FakeModel):
    response = await api.post(PATH, embedding(model, "x"))
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "wrong_model_type"


async def test_embeddings_are_recorded(api: Api, embedding_model: FakeModel):
    request = api.post(PATH, embedding(embedding_model, [[1, 2]], user="u"))
    assert (await request).status_code == 200
    (record,) = await recorded()
    assert record.end_user == "u"
    assert (record.kind, record.prompt_tokens, record.completion_tokens) == ("embedding", 2, 0)


async def test_tokenize_and_detokenize_are_inverse(api: Api, model: FakeModel):
    text = "Grüße, 世界! <|im_start|>"
    tokens = (await api.post("/v1/tokenize", {"model": model.slug, "content": text})).json()
    assert tokens["count"] == len(tokens["tokens"]) > 0
    assert tokens["max_model_len"] == 2048
    body = {"model": model.slug, "tokens": tokens["tokens"]}
    assert (await api.post("/v1/detokenize", body)).json() == {"content": text}


async def test_tokenize_of_messages_is_the_prompt_of_a_chat(api: Api, model: FakeModel):
    model.say("x")
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model.slug, "messages": messages}
    tokens = (await api.post("/v1/tokenize", body)).json()
    answer = (await api.post("/v1/chat/completions", body)).json()
    assert tokens["count"] == answer["usage"]["prompt_tokens"]


async def test_tokenize_works_for_embedding_models(api: Api, embedding_model: FakeModel):
    response = await api.post("/v1/tokenize", {"model": embedding_model.slug, "content": "Hi"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "fields", [{}, {"content": "x", "messages": [{"role": "user", "content": "x"}]}]
)
async def test_tokenize_needs_one_of_two_forms(api: Api, model: FakeModel, fields: dict[str, Any]):
    response = await api.post("/v1/tokenize", {"model": model.slug, **fields})
    assert response.status_code == 400
    assert "either" in response.json()["error"]["message"]


@pytest.mark.parametrize("tokens", [[10**6], [-1], ["a"], None])
async def test_detokenize_of_unknown_ids_is_400(api: Api, model: FakeModel, tokens: object):
    response = await api.post("/v1/detokenize", {"model": model.slug, "tokens": tokens})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("tokens")


async def test_keep_alive_of_a_request_is_kept_for_its_version(
    api: Api, embedding_model: FakeModel, redis_client: redis.Redis
):
    sent = {"model": embedding_model.slug, "input": "a", "keep_alive": "5m"}
    assert (await api.post("/v1/embeddings", sent)).status_code == 200
    assert redis_client.hget(keys.KEEP_ALIVE, embedding_model.key) == b"300"
    refused = await api.post("/v1/embeddings", sent | {"keep_alive": "soon"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "keep_alive")
    redis_client.hdel(keys.KEEP_ALIVE, embedding_model.key)
