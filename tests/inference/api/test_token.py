"""``POST /api/auth/token``."""

from typing import Any

import pytest
import redis
from django.test import AsyncClient

from inference.api.token import ATTEMPTS_PER_MINUTE
from inference.queue import keys
from inference.runs.runtime import Runtime
from tests.stack import Api, make_api

PATH = "/api/auth/token"
PASSWORD = "correct horse"
USERS = ("ada", "nobody", "sleeper")


@pytest.fixture(autouse=True)
def no_attempts_before(redis_client: "redis.Redis") -> None:
    """Tests of the same minute do not count together."""
    redis_client.delete(*(keys.attempts(f"{name} 127.0.0.1") for name in USERS))


async def sign_in(username: object, password: object = PASSWORD) -> Any:
    return await AsyncClient().post(
        PATH, {"username": username, "password": password}, content_type="application/json"
    )


@pytest.fixture
def sleeper(database: None) -> Api:
    return make_api("sleeper", is_active=False)


async def test_token_opens_the_api(api: Api, service: Runtime):
    response = await sign_in("ada")
    assert response.status_code == 200
    content = response.json()
    assert content["token_type"] == "Bearer"
    assert content["expires_in"] > 0
    models = await api.get("/v1/models", Authorization=f"Bearer {content['access_token']}")
    assert models.status_code == 200


async def test_token_of_an_ordinary_user_may_not_operate(api: Api, service: Runtime):
    token = (await sign_in("ada")).json()["access_token"]
    response = await api.post("/v1/models/x/load", {}, Authorization=f"Bearer {token}")
    assert response.status_code == 403


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", "x")])
async def test_token_for_wrong_credentials_is_401(
    api: Api, service: Runtime, username: str, password: str
):
    response = await sign_in(username, password)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_credentials"


async def test_token_for_an_inactive_user_is_401(sleeper: Api, service: Runtime):
    assert (await sign_in("sleeper")).status_code == 401


@pytest.mark.parametrize(
    ("username", "password", "param"),
    [("", "x", "username"), ("a\0b", "x", "username"), ("a", "", "password"), (1, "x", "username")],
)
async def test_token_for_malformed_credentials_is_400(
    api: Api, service: Runtime, username: object, password: object, param: str
):
    response = await sign_in(username, password)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_token_attempts_are_bounded_per_user(api: Api, service: Runtime):
    for _ in range(ATTEMPTS_PER_MINUTE):
        assert (await sign_in("nobody", "guess")).status_code == 401
    response = await sign_in("nobody", "guess")
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 60
    assert (await sign_in("ada")).status_code == 200
