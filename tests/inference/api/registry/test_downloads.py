"""``/api/models/download``: files fetched as jobs that can be watched, stopped and tried again."""

import uuid
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import AsyncClient
from rest_framework_simplejwt.tokens import AccessToken

from inference.database import in_database
from inference.models import Scope
from models_registry.access import ADMINISTRATORS, OPERATORS, VIEWERS, grant_levels
from models_registry.files import downloads
from models_registry.models import Download, Model, ModelVersion, Source
from tests.stack import Api, make_api

UNKNOWN = str(uuid.uuid4())
ROUTES = [
    ("post", "/api/models/download", True),
    ("get", "/api/models/downloads", False),
    ("get", f"/api/models/downloads/{UNKNOWN}", False),
    ("delete", f"/api/models/downloads/{UNKNOWN}", True),
    ("post", f"/api/models/downloads/{UNKNOWN}/retry", True),
]


@pytest.fixture(autouse=True)
def bells(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that would have been handed to the jobs cluster."""
    rung: list[str] = []
    monkeypatch.setattr(downloads, "async_task", lambda task, **_: rung.append(task))
    return rung


@pytest.fixture
def reader(database: None) -> Api:
    """A client that may look and not touch."""
    return make_api("reader", scopes=[Scope.INFERENCE, Scope.MODELS_READ])


async def call(api: Api, method: str, path: str) -> Any:
    """Call a route, with an empty body where there is one."""
    return await (api.post(path, {}) if method == "post" else getattr(api, method)(path))


@pytest.mark.parametrize(("method", "path", "_operates"), ROUTES)
async def test_download_routes_need_a_credential(
    database: None, method: str, path: str, _operates: bool
):
    assert (await getattr(AsyncClient(), method)(path)).status_code == 401


@pytest.mark.parametrize(("method", "path", "operates"), ROUTES)
async def test_download_routes_need_the_scope_to_operate_for_changes(
    reader: Api, method: str, path: str, operates: bool
):
    response = await call(reader, method, path)
    assert (response.status_code == 403) == operates
    if operates:
        assert "models.operate" in response.json()["error"]["message"]


@pytest.mark.parametrize(("method", "status"), [("head", 404), ("options", 200), ("put", 403)])
async def test_other_methods_need_the_scope_to_operate_unless_they_change_nothing(
    reader: Api, method: str, status: int
):
    path = f"/api/models/downloads/{UNKNOWN}"
    response = await getattr(reader.client, method)(path, headers=reader.authorization)
    assert response.status_code == status


async def test_download_of_a_registered_model_is_a_job(
    api: Api, version: ModelVersion, bells: list[str]
):
    response = await api.post("/api/models/download", {"model": version.model.slug})
    assert response.status_code == 202
    job = response.json()
    assert (job["object"], job["model"]) == ("model.download", version.key)
    assert (job["state"], job["bytes_done"], job["requested_by"]) == ("queued", 0, "ada")
    assert job["progress_url"] == f"/api/models/downloads/{job['id']}"
    assert bells == ["models_registry.tasks.run_downloads"]
    assert (await api.get(job["progress_url"])).json() == job


async def test_download_that_is_under_way_is_joined(api: Api, version: ModelVersion):
    first = await api.post("/api/models/download", {"model": version.key})
    second = await api.post("/api/models/download", {"model": version.key})
    assert first.json()["id"] == second.json()["id"]


async def test_download_tells_how_far_it_is(reader: Api, version: ModelVersion):
    download = await in_database(
        lambda: Download.objects.create(
            version=version,
            state=Download.State.RUNNING,
            phase="downloading",
            done_bytes=250,
            total_bytes=1000,
            bytes_per_second=50,
        )
    )
    job = (await reader.get(f"/api/models/downloads/{download.pk}")).json()
    assert (job["phase"], job["bytes_done"], job["bytes_total"]) == ("downloading", 250, 1000)
    assert (job["bytes_per_second"], job["eta_seconds"]) == (50, 15)


async def test_downloads_are_listed_newest_first(api: Api, version: ModelVersion):
    first = (await api.post("/api/models/download", {"model": version.key})).json()["id"]
    await api.delete(f"/api/models/downloads/{first}")
    second = (await api.post("/api/models/download", {"model": version.key})).json()["id"]
    content = (await api.get("/api/models/downloads")).json()
    assert content["object"] == "list"
    assert [(job["id"], job["state"]) for job in content["data"]] == [
        (second, "queued"),
        (first, "cancelled"),
    ]


async def test_download_can_be_cancelled_and_tried_again(api: Api, version: ModelVersion):
    job = (await api.post("/api/models/download", {"model": version.key})).json()
    cancelled = (await api.delete(job["progress_url"])).json()
    assert (cancelled["state"], cancelled["cancelled_by"]) == ("cancelled", "ada")
    assert cancelled["finished"] >= cancelled["created"]
    response = await api.post(f"{job['progress_url']}/retry", {})
    assert response.status_code == 202
    assert response.json()["state"] == "queued"
    assert response.json()["id"] != job["id"]


async def test_download_from_a_url_registers_the_model(api: Api):
    body = {
        "url": "hf://owner/repo/m.gguf",
        "slug": "my-model",
        "label": "q4",
        "sha256": "AB" * 32,
    }
    response = await api.post("/api/models/download", body)
    assert response.status_code == 202
    assert response.json()["model"] == "my-model@q4"
    version = await in_database(lambda: ModelVersion.objects.select_related("model").get())
    assert (version.file_name, version.sha256) == ("my-model@q4.gguf", "ab" * 32)
    assert version.is_default
    assert await in_database(lambda: Source.objects.get().url) == body["url"]


async def test_download_from_a_url_is_for_public_addresses_unless_a_setting_allows_others(
    api: Api, settings: Any
):
    await api.post("/api/models/download", {"url": "https://1.1.1.1/m.gguf", "slug": " m1\n"})
    settings.SOURCES_ALLOW_PRIVATE = True
    await api.post("/api/models/download", {"url": "https://127.0.0.1/m.gguf", "slug": "m2"})
    rows = Source.objects.order_by("pk").values_list("version__model__slug", "only_public")
    assert await in_database(lambda: list(rows)) == [("m1", True), ("m2", True)]


@pytest.mark.parametrize(
    ("entered", "status"),
    [
        (None, 403),
        ({"url": "s3://ours/a.gguf"}, 202),
        ({"url": "s3://ou%72s/a.gguf"}, 202),
        ({"url": "s3://ours/a.gguf", "only_public": True}, 403),  # given over the API itself
        ({"url": "s3://oursother/a.gguf"}, 403),
    ],
)
async def test_key_names_only_buckets_that_somebody_opened(
    api: Api, version: ModelVersion, entered: dict[str, Any] | None, status: int
):
    if entered is not None:
        await in_database(lambda: version.sources.create(**entered))
    body = {"url": "s3://ours/b.gguf", "slug": "mine"}
    response = await api.post("/api/models/download", body)
    assert response.status_code == status
    assert await in_database(Model.objects.filter(slug="mine").exists) == (status == 202)
    if status == 403:
        assert "S3 buckets" in response.json()["error"]["message"]


async def test_administrator_with_a_token_names_any_bucket(database: None):
    token = await in_database(_token_of, ADMINISTRATORS)
    response = await AsyncClient().post(
        "/api/models/download",
        {"url": "s3://theirs/b.gguf", "slug": "mine"},
        content_type="application/json",
        headers={"authorization": f"Bearer {token}"},
    )
    assert response.status_code == 202


def _token_of(group: str) -> str:
    """The token of a member of staff in a group."""
    grant_levels(apps.get_app_config("models_registry"))
    user = get_user_model().objects.create_user(group, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    return str(AccessToken.for_user(user))


@pytest.mark.parametrize(
    ("group", "status", "reason"),
    [
        (VIEWERS, 403, "models.operate"),
        (OPERATORS, 403, "You may not register models"),
        (ADMINISTRATORS, 202, ""),
    ],
)
async def test_token_registers_models_only_with_the_permission(
    api: Api, group: str, status: int, reason: str
):
    api.secret = await in_database(_token_of, group)
    body = {"url": "hf://owner/repo/m.gguf", "slug": "my-model"}
    response = await api.post("/api/models/download", body)
    assert response.status_code == status
    assert reason in response.content.decode()
    assert await in_database(Model.objects.exists) == (status == 202)


async def test_download_from_the_same_url_joins_or_starts_again(api: Api):
    body = {"url": "hf://owner/repo/m.gguf", "slug": "my-model", "sha256": "ab" * 32}
    first = (await api.post("/api/models/download", body)).json()
    again = await api.post("/api/models/download", body)
    assert (again.status_code, again.json()["id"]) == (202, first["id"])
    await api.delete(first["progress_url"])
    del body["sha256"]
    third = await api.post("/api/models/download", body)
    assert (third.status_code, third.json()["model"]) == (202, "my-model@v1")
    assert third.json()["id"] != first["id"]


@pytest.mark.parametrize(
    ("change", "param"),
    [({"url": "hf://o/r/other.gguf"}, "label"), ({"sha256": "cd" * 32}, "sha256")],
)
async def test_download_of_something_else_as_a_version_that_exists_is_409(
    api: Api, change: dict[str, str], param: str
):
    body = {"url": "hf://o/r/m.gguf", "slug": "my-model", "sha256": "ab" * 32}
    await api.post("/api/models/download", body)
    response = await api.post("/api/models/download", body | change)
    assert response.status_code == 409
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, "conflict")
    assert "my-model@v1 is registered already" in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "reason"),
    [
        ({}, "model", "is missing"),
        ({"url": "hf://o/r/m.gguf"}, "slug", "is missing"),
        ({"model": "a", "url": "hf://o/r/m.gguf"}, "model", "stands alone"),
        ({"url": "ftp://host/m.gguf", "slug": "m"}, "url", "use hf://, https://"),
        ({"url": "hf://o/m.gguf", "slug": "m"}, "url", "write hf://owner/repository"),
        ({"url": "s3://bucket", "slug": "m"}, "url", "write s3://bucket/path"),
        ({"url": "pypi://x/m", "slug": "m"}, "url", "write pypi://package"),
        ({"url": "http://example.org/m.gguf", "slug": "m"}, "url", "is not encrypted"),
        ({"url": "file:///etc/passwd", "slug": "m"}, "url", "manage.py add_model"),
        ({"url": "https://127.0.0.1/m.gguf", "slug": "m"}, "url", "address of this machine"),
        ({"url": "https://[fd00::1]/m.gguf", "slug": "m"}, "url", "address of this machine"),
        ({"url": "https://169.254.169.254/m", "slug": "m"}, "url", "address of this machine"),
        ({"url": "https://h/m?token=x", "slug": "m"}, "url", "holds a secret"),
        ({"url": "hf://o/r/m.gguf", "slug": "../m"}, "slug", "Use lower-case letters"),
        ({"url": "hf://o/r/m.gguf", "slug": "m", "label": "a/b"}, "label", "is not a valid label"),
        ({"url": "hf://o/r/m.gguf", "slug": "m", "sha256": "abc"}, "sha256", ""),
        ({"model": "a", "force": True}, "force", ""),
    ],
)
async def test_download_that_cannot_be_meant_is_400(
    api: Api, body: dict[str, Any], param: str, reason: str
):
    response = await api.post("/api/models/download", body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert reason in error["message"]
    assert not await in_database(Model.objects.exists)


async def test_download_of_an_unknown_model_is_404(api: Api):
    response = await api.post("/api/models/download", {"model": "nothing"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("name", [UNKNOWN, "no-id"])
async def test_download_that_does_not_exist_is_404(api: Api, name: str):
    assert (await api.get(f"/api/models/downloads/{name}")).status_code == 404
