"""Requests for a model that is not in memory: they wait, see how far it is, or learn why not."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from inference import consumers
from inference.api import delivery
from inference.messages import Delta, Failed, Finished, Started, Usage
from inference.orders import resolution
from inference.queue import keys
from inference.queue.demand import DemandReader, Which
from inference.runs import availability
from inference.runs.availability import load_fraction
from inference.runs.runtime import Runtime
from models_registry.models import Model, ModelVersion, Node, Replica
from tests.inference.test_consumer_chat import socket_of
from tests.stack import Api, FakeModel, ScriptedHost, body_of, sse_events

PATH = "/v1/chat/completions"
POLL_SECONDS = 0.02


def chat(version: ModelVersion, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": version.model.slug, "messages": messages, **fields}


@pytest.fixture
def controller(
    version: ModelVersion, redis_client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> Iterator[DemandReader]:
    """A controller that has said it loads the version."""
    monkeypatch.setattr(delivery, "LOADING_POLL_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(consumers, "LOADING_POLL_SECONDS", POLL_SECONDS)
    reader = DemandReader(redis_client, 60)
    reader.announce([version.key], {version.key: 0.4})
    yield reader
    redis_client.delete(keys.LOADABLE, keys.LOADING)
    redis_client.hdel(keys.USED, version.key)
    redis_client.hdel(keys.KEEP_ALIVE, version.key)


async def loaded(
    controller: DemandReader, client: "redis.Redis", version: ModelVersion
) -> ScriptedHost:
    """The host comes up."""
    controller.announce([version.key], {})
    return await asyncio.to_thread(ScriptedHost, client, version.key)


async def test_a_request_waits_for_its_model(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
):
    request = asyncio.create_task(api.post(PATH, chat(version)))
    host = await loaded(controller, redis_client, version)
    await host.answer(Started(3), Delta("hello", [1]), Finished("stop", Usage(3, 1)))
    response = await request
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "hello"


async def test_a_request_waits_for_the_controller_to_see_a_new_version(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
):
    looked_up = threading.Event()
    can_be_loaded = availability._can_be_loaded

    def look_up(version_key: str) -> bool:
        looked_up.set()
        return can_be_loaded(version_key)

    monkeypatch.setattr(availability, "NEWS_POLL_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(availability, "NEWS_POLLS", 1_000_000)
    monkeypatch.setattr(availability, "_can_be_loaded", look_up)
    controller.announce([], {})
    request = asyncio.create_task(api.post(PATH, chat(version)))
    assert await asyncio.to_thread(looked_up.wait, 30)
    assert not request.done()
    host = await loaded(controller, redis_client, version)
    await host.answer(Started(3), Delta("hello", [1]), Finished("stop", Usage(3, 1)))
    assert (await request).status_code == 200


async def test_a_version_that_nothing_will_load_is_refused_at_once(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
):
    attempts: list[object] = []
    enqueue = service.queue.enqueue

    async def counted(*arguments: Any) -> None:
        attempts.append(arguments)
        await enqueue(*arguments)

    monkeypatch.setattr(service.queue, "enqueue", counted)
    monkeypatch.setattr(availability, "NEWS_POLL_SECONDS", 0)
    controller.announce(["another@q4"], {})
    redis_client.delete(keys.LOADABLE)
    assert (await api.post(PATH, chat(version))).status_code == 503
    assert len(attempts) == 1


MISSING_FILE_BODIES = [
    ("text_generation", PATH, {"messages": [{"role": "user", "content": "x"}]}),
    ("text_generation", "/v1/completions", {"prompt": "x"}),
    ("text_generation", "/v1/tokenize", {"content": "x"}),
    ("text_generation", "/v1/detokenize", {"tokens": [1]}),
    ("embedding", "/v1/embeddings", {"input": "x"}),
    ("embedding", "/v1/tokenize", {"content": "x"}),
]


@pytest.mark.parametrize(("kind", "path", "fields"), MISSING_FILE_BODIES)
@pytest.mark.parametrize("state", ["absent", "failed", "ready"])
async def test_a_model_whose_file_is_not_here_is_404_and_says_how_to_fetch_it(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    kind: str,
    path: str,
    fields: dict[str, Any],
    state: str,
):
    # What the file says is not known either. "ready": somebody has deleted it.
    await ModelVersion.objects.aupdate(file_state=state, file_name="gone.gguf", chat_template="")
    await Model.objects.aupdate(type=kind)
    response = await api.post(path, {"model": version.model.slug, **fields})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_file_missing", "model")
    assert f"manage.py fetch_model {version.key}" in error["message"]
    assert "Retry-After" not in response


async def test_a_model_whose_file_is_not_here_is_an_error_on_a_websocket(
    api: Api, service: Runtime, version: ModelVersion
):
    await ModelVersion.objects.aupdate(file_state=ModelVersion.FileState.ABSENT)
    async with socket_of(api) as socket:
        await socket.send("stream_chat", **chat(version))
        _, data = await socket.receive()
        assert data["error"]["code"] == "model_file_missing"


async def test_a_model_whose_file_is_being_fetched_is_503(
    api: Api, service: Runtime, version: ModelVersion
):
    fetching = ModelVersion.FileState.FETCHING
    await ModelVersion.objects.aupdate(file_state=fetching, chat_template="")
    response = await api.post(PATH, chat(version))
    assert (response.status_code, response["Retry-After"]) == (503, "10")
    assert response.json()["error"]["code"] == "model_file_fetching"


@pytest.mark.parametrize("state", ["absent", "fetching", "failed", "ready"])
async def test_a_model_in_memory_serves_without_its_file(
    api: Api,
    model: FakeModel,
    state: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)
    model.say("hello")
    assert (await api.post(PATH, chat(model.version))).status_code == 200
    node = await Node.objects.acreate(name="test")
    ready = Replica.State.READY
    await Replica.objects.acreate(version=model.version, node=node, state=ready)
    await ModelVersion.objects.aupdate(file_state=state)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    model.say("hello")
    assert (await api.post(PATH, chat(model.version))).status_code == 200


async def test_a_file_that_goes_meanwhile_is_404_as_well(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 60.0)
    controller.announce(["another@q4"], {})
    assert (
        await api.post("/v1/tokenize", {"model": version.key, "content": "x"})
    ).status_code == 200
    await ModelVersion.objects.aupdate(file_state=ModelVersion.FileState.ABSENT)
    body = chat(version) | {"model": version.key}
    response = await api.post(PATH, body)
    assert response.json()["error"]["code"] == "model_file_missing"


async def test_a_stream_shows_how_far_the_load_is(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
):
    response = await api.post(PATH, chat(version, stream=True))
    assert response.status_code == 200
    chunks = response.streaming_content
    assert await anext(chunks) == b": loading 40 %\n"
    host = await loaded(controller, redis_client, version)
    await host.answer(Started(3), Delta("hello", [1]), Finished("stop", Usage(3, 1)))
    rest = b"".join([chunk async for chunk in chunks])
    events = sse_events(rest)
    assert events[-1] == "[DONE]"
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"


async def test_a_load_that_comes_to_nothing_ends_the_stream_with_the_reason(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
):
    response = await api.post(PATH, chat(version, stream=True))
    no_room = Failed("model_unavailable", "No room.")
    await asyncio.to_thread(lambda: controller.refuse(version.key, no_room, Which.ALL))
    (error,) = sse_events(await body_of(response))
    assert error["error"]["code"] == "model_unavailable"
    assert error["error"]["message"] == "No room."


async def test_what_cannot_be_loaded_is_503_with_the_reason(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
):
    controller.announce([version.key], {})
    request = asyncio.create_task(api.post(PATH, chat(version, stream=True)))
    host = await loaded(controller, redis_client, version)
    await host.answer(Failed("model_unavailable", "It needs 1.2 GiB.", 41.2))
    response = await request
    assert response.status_code == 503
    assert response["Retry-After"] == "42"
    assert response.json()["error"]["message"] == "It needs 1.2 GiB."


async def test_keep_alive_of_a_request_is_kept_for_its_version(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
):
    request = asyncio.create_task(api.post(PATH, chat(version, keep_alive="5m")))
    host = await loaded(controller, redis_client, version)
    await host.answer(Started(3), Finished("stop", Usage(3, 1)))
    assert (await request).status_code == 200
    demand, _ = controller.read([version.key], [])
    assert demand[version.key].keep_alive_seconds == 300


async def test_a_bad_keep_alive_is_400(
    api: Api, service: Runtime, version: ModelVersion, controller: DemandReader
):
    response = await api.post(PATH, chat(version, keep_alive="soon"))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "keep_alive"


async def test_a_websocket_shows_how_far_the_load_is(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    controller: DemandReader,
    redis_client: "redis.Redis",
):
    async with socket_of(api) as socket:
        await socket.send("stream_chat", **chat(version), request_id="r1")
        event, data = await socket.receive()
        assert event == "loading"
        assert (data["fraction"], data["request_id"]) == (0.4, "r1")
        host = await loaded(controller, redis_client, version)
        await host.answer(Started(3), Delta("hello", [1]), Finished("stop", Usage(3, 1)))
        events = await socket.until("stream_end")
        assert events[-1][1]["stream_id"] == data["stream_id"]


async def test_how_far_a_load_is_is_unknown_while_redis_is_away() -> None:
    client = redis.asyncio.Redis(port=1, retry=Retry(NoBackoff(), 0))
    assert await load_fraction(client, "m@v") is None
    await client.aclose()
