"""Answers name their version."""

from email.header import decode_header
from typing import Any

import pytest

from inference.api.version_headers import version_headers
from inference.database import in_database
from models_registry.catalogue.rollout import deprecate
from models_registry.models import ModelVersion
from tests.stack import Api, FakeModel, body_of, sse_events

NOTE = 'Use "other" instead.'


def chat(model: FakeModel, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "x"}
    return {"model": model.slug, "messages": [message], "max_tokens": 2, **fields}


@pytest.fixture
async def deprecated(model: FakeModel) -> FakeModel:
    await in_database(deprecate, model.version, NOTE)
    return model


def test_headers_name_the_version_alone() -> None:
    assert version_headers("m@v", "") == {"x-brigade-model-version": "m@v"}


def test_warning_is_one_quoted_line() -> None:
    headers = version_headers("m@v", 'a "b"\r\nSet-Cookie: c\\d')
    assert headers["Deprecation"] == "true"
    assert headers["Warning"] == '299 - "a \\"b\\" Set-Cookie: c\\\\d"'


def test_warning_in_another_alphabet_is_encoded() -> None:
    text = "Veraltet, nimm „größer“. " + "Уходи. " * 20
    value = version_headers("m@v", text)["Warning"]
    assert value.isascii()
    assert "\n" not in value
    decoded = decode_header(value.removeprefix('299 - "').removesuffix('"'))
    assert "".join(part.decode(charset) for part, charset in decoded) == text


async def test_answer_says_which_version_served(api: Api, model: FakeModel):
    response = await api.post("/v1/chat/completions", chat(model))
    assert response.status_code == 200
    assert response["x-brigade-model-version"] == model.key
    assert "Deprecation" not in response
    assert "Warning" not in response


async def test_deprecated_version_answers_with_a_warning(api: Api, deprecated: FakeModel):
    response = await api.post("/v1/chat/completions", chat(deprecated))
    assert response.status_code == 200
    assert response["Deprecation"] == "true"
    assert response["Warning"] == (
        f'299 - "{deprecated.key} is deprecated. Use \\"other\\" instead."'
    )


async def test_stream_and_who_resumes_it_are_warned(api: Api, deprecated: FakeModel):
    response = await api.post("/v1/chat/completions", chat(deprecated, stream=True))
    assert response["Deprecation"] == "true"
    events = sse_events(await body_of(response))
    resumed = await api.get(f"/v1/streams/{events[0]['id']}")
    for again in (response, resumed):
        assert again["x-brigade-model-version"] == deprecated.key
        assert again["Warning"].startswith("299 - ")
    await body_of(resumed)


async def test_embeddings_and_tokens_say_it_too(api: Api, embedding_model: FakeModel):
    await in_database(ModelVersion.objects.update, is_deprecated=True)
    bodies: dict[str, dict[str, Any]] = {
        "/v1/embeddings": {"input": "a"},
        "/v1/tokenize": {"content": "a"},
        "/v1/detokenize": {"tokens": [1]},
    }
    for path, body in bodies.items():
        response = await api.post(path, {"model": embedding_model.slug, **body})
        assert response.status_code == 200
        assert response["x-brigade-model-version"] == embedding_model.key
        assert response["Deprecation"] == "true"


async def test_request_names_a_mode_that_is_not_served(api: Api, model: FakeModel):
    body = {"model": model.slug, "prompt": "a", "orchestration_mode": "debate"}
    response = await api.post("/v1/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_mode"
    served = chat(model, orchestration_mode="single", task_type="code")
    assert (await api.post("/v1/chat/completions", served)).status_code == 200
