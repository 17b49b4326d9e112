"""Permissions of routes, and their answers to bad requests."""

import base64
import json

import pytest
from django.test import AsyncClient

from inference.models import Scope
from inference.runs.runtime import Runtime
from tests.stack import Api, FakeModel, make_api

ROUTES = [
    ("post", "/v1/chat/completions"),
    ("post", "/v1/completions"),
    ("post", "/v1/embeddings"),
    ("post", "/v1/tokenize"),
    ("post", "/v1/detokenize"),
    ("get", "/v1/models"),
    ("get", "/v1/models/some"),
    ("post", "/v1/models/some/load"),
    ("post", "/v1/models/some/unload"),
    ("get", "/v1/streams/some"),
    ("delete", "/v1/streams/some"),
]
BODIES = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ("/v1/completions", {"prompt": "x"}),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/tokenize", {"content": "x"}),
    ("/v1/detokenize", {"tokens": [1]}),
]


@pytest.fixture
def nobody(database: None) -> Api:
    """A client with a key that may do nothing."""
    return make_api("nobody", scopes=[])


@pytest.fixture
def reader(database: None) -> Api:
    """A client with the scopes that keys usually have."""
    return make_api("reader", scopes=[Scope.INFERENCE, Scope.MODELS_READ])


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_route_without_a_credential_is_401(database: None, method: str, path: str):
    response = await getattr(AsyncClient(), method)(path)
    assert response.status_code == 401
    error = response.json()["error"]
    assert list(error)[:4] == ["message", "type", "param", "code"]
    assert error["code"] == "missing_api_key"
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Basic YWI=", "Bearer", "Bearer ", "sk-brigade-x"])
async def test_route_with_another_kind_of_credential_is_401(database: None, header: str):
    response = await AsyncClient().get("/v1/models", headers={"Authorization": header})
    assert response.status_code == 401
    assert "Bearer" in response.json()["error"]["message"]


@pytest.mark.parametrize("secret", ["sk-brigade-unknown", "nonsense", "a.b.c", "sk-brigade-é"])
async def test_route_with_an_unknown_credential_is_401(database: None, secret: str):
    response = await AsyncClient().get("/v1/models", headers={"Authorization": f"Bearer {secret}"})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


async def test_route_takes_a_key_in_the_headers_that_clients_use(api: Api, service: Runtime):
    basic = base64.b64encode(f"any:{api.secret}".encode()).decode()
    for name, value in (
        ("x-api-key", api.secret),
        ("api-key", api.secret),
        ("Authorization", f"Basic {basic}"),
    ):
        response = await api.client.get("/v1/models", headers={name: value})
        assert response.status_code == 200, name


@pytest.mark.parametrize("name", ["api_key", "api-key", "key", "token", "access_token"])
async def test_route_takes_no_key_from_the_query(api: Api, name: str):
    response = await api.client.get(f"/v1/models?{name}={api.secret}")
    assert response.status_code == 401


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_route_without_its_scope_is_403(nobody: Api, method: str, path: str):
    response = await getattr(nobody.client, method)(path, headers=nobody.authorization)
    assert response.status_code == 403
    error = response.json()["error"]
    assert error["code"] == "insufficient_scope"
    assert error["details"]["required"] in Scope.values


async def test_route_of_operation_needs_more_than_reading(reader: Api):
    assert (await reader.get("/v1/models")).status_code == 200
    assert (await reader.post("/v1/models/some/load", {})).status_code == 403


@pytest.mark.parametrize(("path", "fields"), BODIES)
async def test_route_with_an_unknown_model_is_404(
    api: Api, service: Runtime, path: str, fields: dict[str, object]
):
    response = await api.post(path, {"model": "no-such-model", **fields})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "no-such-model" in error["message"]


@pytest.mark.parametrize(("path", "fields"), BODIES)
async def test_route_with_a_nul_in_the_model_is_refused(
    api: Api, service: Runtime, path: str, fields: dict[str, object]
):
    response = await api.post(path, {"model": "a\0b", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize(("path", "fields"), BODIES)
async def test_route_refuses_an_unknown_parameter_by_name(
    api: Api, service: Runtime, path: str, fields: dict[str, object]
):
    response = await api.post(path, {"model": "m", **fields, "tempreture": 1})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "tempreture")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"', b'{"model": NaN}'])
async def test_route_with_bad_json_is_400(api: Api, service: Runtime, body: bytes):
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"


async def test_route_reads_json_whatever_the_content_type_says(api: Api, model: FakeModel):
    model.say("ok")
    body = {"model": model.slug, "messages": [{"role": "user", "content": "x"}]}
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        response = await api.client.post(
            "/v1/chat/completions",
            json.dumps(body).encode(),
            content_type=content_type,
            headers=api.authorization,
        )
        assert response.status_code == 200, response.content


async def test_route_with_a_form_is_400_not_500(api: Api, service: Runtime):
    response = await api.client.post(
        "/v1/chat/completions", {"model": "x"}, headers=api.authorization
    )
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize(
    "accept", ["application/json", "text/event-stream", "*/*", "text/html", "nonsense", ""]
)
async def test_route_serves_clients_whatever_they_accept(api: Api, service: Runtime, accept: str):
    response = await api.get("/v1/models", Accept=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


async def test_route_does_not_take_a_format_from_the_query(api: Api, service: Runtime):
    assert (await api.get("/v1/models?format=xml")).status_code == 200


async def test_route_with_too_large_a_body_is_413(api: Api, service: Runtime, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    response = await api.post("/v1/chat/completions", b" " * 1001)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


async def test_route_with_too_long_a_text_is_413(
    api: Api, model: FakeModel, monkeypatch: pytest.MonkeyPatch, service: Runtime
):
    monkeypatch.setattr(service.tokenizer, "_max_characters", 10)
    body = {"model": model.slug, "messages": [{"role": "user", "content": "x" * 11}]}
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 413
    assert "at most 10" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/chat/completions"), ("PUT", "/v1/models"), ("POST", "/v1/streams/x")],
)
async def test_route_with_the_wrong_method_is_405(
    api: Api, service: Runtime, method: str, path: str
):
    response = await api.client.generic(method, path, headers=api.authorization)
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert response["Allow"]


@pytest.mark.parametrize("method", ["INITIAL", "DISPATCH", "SETUP", "ARGS", "GET_PARSERS"])
async def test_route_with_an_invented_method_is_405(api: Api, service: Runtime, method: str):
    response = await api.client.generic(method, "/v1/models", headers=api.authorization)
    assert response.status_code == 405


async def test_route_answers_options(api: Api, service: Runtime):
    response = await api.client.options("/v1/models", headers=api.authorization)
    assert response.status_code == 200
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/", "/v2/models", "/v1"])
async def test_unknown_route_is_404_as_json(database: None, path: str):
    response = await AsyncClient().post(path, b"{}", content_type="application/json")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert error["code"] == "not_found"
    assert path in error["message"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/models", "/v1/models"),
        ("/models/some", "/v1/models/some"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions", "/v1/chat/completions"),
        ("/api/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/some/embeddings", "/v1/embeddings"),
        ("/v2/tokenize", "/v1/tokenize"),
    ],
)
async def test_route_of_a_wrong_base_url_is_404_with_the_right_one(
    database: None, path: str, meant: str
):
    response = await AsyncClient().post(path, b"{}", content_type="application/json")
    assert response.status_code == 404
    assert f"Use {meant}:" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/audio/speech", "/favicon.ico", "/v1"])
async def test_unknown_route_names_no_other(database: None, path: str):
    response = await AsyncClient().post(path, b"{}", content_type="application/json")
    assert response.status_code == 404
    assert "Use" not in response.json()["error"]["message"]


async def test_wrong_type_of_model_is_404_and_says_so(api: Api, embedding_model: FakeModel):
    body = {"model": embedding_model.slug, "messages": [{"role": "user", "content": "x"}]}
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "wrong_model_type"


async def test_response_model_is_what_was_asked_of_a_labelled_version(api: Api, model: FakeModel):
    model.say("ok")
    body = {"model": model.key, "messages": [{"role": "user", "content": "x"}]}
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 200
    assert response.json()["system_fingerprint"] == model.key
