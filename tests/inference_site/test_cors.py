"""Pages of other origins may call the API from a browser, and nothing else."""

from typing import Any

import pytest
from django.test import AsyncClient

from tests.stack import Api, api, database, redis_client, service, shared_tokenizer  # noqa: F401

CHAT = "/v1/chat/completions"


async def preflight(origin: str, path: str = CHAT) -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    return await AsyncClient().options(path, headers=headers)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://localhost:3000",
        "http://127.0.0.1:5173",
        "http://[::1]:80",
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/api/auth/token", "/health", "/models"])
async def test_preflight_of_this_machine_needs_no_key(origin: str, path: str):
    response = await preflight(origin, path)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == origin
    assert response["Access-Control-Allow-Headers"] == "authorization, *"
    assert "DELETE" in response["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in response


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org",
        "http://localhost.example.org",
        "http://localhost:3000.example.org",
        "http://xlocalhost",
        "http://127.0.0.1.example.org",
        "http://127x0y0z1",
        "null",
        "file://",
    ],
)
async def test_preflight_of_others_allows_nothing(origin: str):
    assert "Access-Control-Allow-Origin" not in await preflight(origin)


@pytest.mark.parametrize("path", ["/admin/", "/admin", "/admin/login/", "/static/x.css", "/"])
async def test_pages_allow_no_foreign_origin(database: None, path: str):  # noqa: F811
    response = await preflight("http://localhost:3000", path)
    assert "Access-Control-Allow-Origin" not in response


async def test_origins_of_the_settings_are_allowed(settings: Any):
    settings.CORS_ALLOWED_ORIGINS = ["https://ui.example.org"]
    response = await preflight("https://ui.example.org")
    assert response["Access-Control-Allow-Origin"] == "https://ui.example.org"
    assert "Access-Control-Allow-Origin" not in await preflight("https://x.example.org")
    assert (await preflight("http://localhost"))["Access-Control-Allow-Origin"]


async def test_refusal_can_be_read_by_the_page(database: None):  # noqa: F811
    for path in (CHAT, "/chat/completions"):
        response = await AsyncClient().post(path, headers={"Origin": "http://localhost:3000"})
        assert response.status_code in (401, 404)
        assert response["Access-Control-Allow-Origin"] == "http://localhost:3000"
        exposed = response["Access-Control-Expose-Headers"].split(", ")
        assert {"x-request-id", "retry-after", "x-brigade-model-version"} <= set(exposed)
