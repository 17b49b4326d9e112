"""``POST /api/auth/token``."""

import pytest
from django.test import AsyncClient

from inference.services import InferenceService
from tests.stack import Api, make_api

PATH = "/api/auth/token"


async def sign_in(username: object, password: object = "correct horse") -> object:
    return await AsyncClient().post(
        PATH, {"username": username, "password": password}, content_type="application/json"
    )


@pytest.fixture
def sleeper(database: None) -> Api:
    return make_api("sleeper", is_active=False)


async def test_token_opens_the_api(api: Api, service: InferenceService):
    response = await sign_in("ada")
    assert response.status_code == 200
    content = response.json()
    assert content["token_type"] == "Bearer"
    assert content["expires_in"] > 0
    models = await api.get("/v1/models", Authorization=f"Bearer {content['access_token']}")
    assert models.status_code == 200


async def test_token_of_an_ordinary_user_may_not_operate(api: Api, service: InferenceService):
    token = (await sign_in("ada")).json()["access_token"]
    response = await api.post("/v1/models/x/load", {}, Authorization=f"Bearer {token}")
    assert response.status_code == 403


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", "x")])
async def test_token_for_wrong_credentials_is_401(
    api: Api, service: InferenceService, username: str, password: str
):
    response = await sign_in(username, password)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_credentials"


async def test_token_for_an_inactive_user_is_401(sleeper: Api, service: InferenceService):
    assert (await sign_in("sleeper")).status_code == 401


@pytest.mark.parametrize(
    ("username", "password", "param"),
    [("", "x", "username"), ("a\0b", "x", "username"), ("a", "", "password"), (1, "x", "username")],
)
async def test_token_for_malformed_credentials_is_400(
    api: Api, service: InferenceService, username: object, password: object, param: str
):
    response = await sign_in(username, password)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
