"""Progress of downloads over the WebSocket."""

import uuid
from typing import Any

import pytest

from inference.api.registry import progress
from inference.database import in_database
from inference.runs.runtime import Runtime
from models_registry.models import Download, ModelVersion
from tests.inference.test_consumer_chat import only_error, socket_of
from tests.stack import (  # noqa: F401 - fixtures
    Api,
    FakeModel,
    api,
    database,
    eventually,
    make_api,
    model,
    redis_client,
    service,
    shared_tokenizer,
    version,
)


@pytest.fixture
def download(version: ModelVersion) -> Download:  # noqa: F811
    return Download.objects.create(version=version, state=Download.State.RUNNING, total_bytes=100)


@pytest.fixture
def blind(database: None) -> Api:  # noqa: F811
    """A client that may not look at models."""
    return make_api("blind", scopes=["inference"])


@pytest.fixture
def reader(database: None) -> Api:  # noqa: F811
    """A client that may only look at models."""
    return make_api("reader", scopes=["models.read"])


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[uuid.UUID]:
    """Ids of what was looked at; nobody waits between two looks."""
    seen: list[uuid.UUID] = []
    look = progress.found

    def noted(download_id: uuid.UUID) -> Download:
        seen.append(download_id)
        return look(download_id)

    monkeypatch.setattr(progress, "found", noted)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.001)
    return seen


async def change(download: Download, **fields: Any) -> None:
    await in_database(Download.objects.filter(pk=download.pk).update, **fields)


async def test_consumer_tells_of_a_download_until_it_ends(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    download: Download,
    looks: list[uuid.UUID],
):
    async with socket_of(api) as socket:
        await socket.send("follow_download", download_id=str(download.pk))
        event, first = await socket.receive()
        assert (event, first["state"], first["bytes_done"]) == ("download", "running", 0)
        assert first == (await api.get(first["progress_url"])).json()
        seen = len(looks)
        await eventually(lambda: len(looks) > seen + 2)
        await change(download, done_bytes=40)
        assert (await socket.receive())[1]["bytes_done"] == 40  # and nothing in between
        await change(download, done_bytes=100, state=Download.State.DONE)
        assert (await socket.receive())[1]["state"] == "done"
        seen = len(looks)
        assert await socket.communicator.receive_nothing()
        assert len(looks) == seen


async def test_consumer_stops_to_look_when_the_socket_closes(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    download: Download,
    looks: list[uuid.UUID],
):
    async with socket_of(api) as socket:
        await socket.send("follow_download", download_id=str(download.pk))
        await socket.receive()
    async with socket_of(api) as other:
        seen = len(looks)
        assert await other.communicator.receive_nothing()
    assert len(looks) <= seen + 1  # one may have been under way


async def test_consumer_lets_a_reader_of_models_follow_and_nothing_else(
    service: Runtime,  # noqa: F811
    reader: Api,
    model: FakeModel,  # noqa: F811
    download: Download,
):
    async with socket_of(reader) as socket:
        await socket.send("follow_download", download_id=str(download.pk))
        assert (await socket.receive())[0] == "download"
    async with socket_of(reader) as socket:
        await socket.send("stream_chat", model=model.slug, prompt="Hi")
        assert only_error(await socket.receive())["code"] == "insufficient_scope"
        await socket.send("stop_generation")
        assert only_error(await socket.receive())["code"] == "insufficient_scope"
        await socket.send("resume", stream_id="chatcmpl-x")
        assert only_error(await socket.receive())["code"] == "insufficient_scope"


async def test_consumer_names_what_is_wrong_with_following(
    service: Runtime,  # noqa: F811
    api: Api,  # noqa: F811
    blind: Api,
    download: Download,
):
    unknown = str(uuid.uuid4())
    async with socket_of(api) as socket:
        await socket.send("follow_download", download_id="no-id")
        assert only_error(await socket.receive())["param"] == "download_id"
        await socket.send("follow_download", download_id=unknown)
        event, data = await socket.receive()
        assert (event, data["download_id"], data["error"]["code"]) == (
            "error", unknown, "not_found",
        )  # fmt: skip
    async with socket_of(blind) as socket:
        await socket.send("follow_download", download_id=str(download.pk))
        assert only_error(await socket.receive())["code"] == "insufficient_scope"
