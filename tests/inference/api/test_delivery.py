"""Responses to a client when a run fails, is refused, or is left."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from asgiref.testing import ApplicationCommunicator
from openai._streaming import SSEDecoder

from inference.messages import Delta, Failed, Finished, Generation, Started, Usage, run_id_of
from inference.queue import keys
from inference.runs.host_run import HostRun
from inference.runs.runtime import Runtime
from inference_site.asgi import application
from models_registry.models import ModelVersion
from tests.stack import (
    Api,
    FakeModel,
    ScriptedHost,
    body_of,
    eventually,
    record_of,
    recorded,
    sse_events,
)

PATH = "/v1/chat/completions"


def chat(version: ModelVersion, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": version.model.slug, "messages": messages, **fields}


async def test_not_loaded_and_nobody_to_load_it_is_503_and_says_so(
    api: Api, service: Runtime, version: ModelVersion
):
    response = await api.post(PATH, chat(version))
    assert response.status_code == 503
    error = response.json()["error"]
    assert error["code"] == "model_not_loaded"
    assert "manage.py controller" in error["message"]
    assert 0 < int(response["Retry-After"]) <= 120
    assert error["details"]["retry_after_ms"] == 1000 * int(response["Retry-After"])


@pytest.mark.parametrize("stream", [False, True])
async def test_full_queue_is_503_with_retry_after(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
    redis_client: "redis.Redis",
    stream: bool,
):
    configure(max_queue_size=1)
    waiting = asyncio.create_task(api.post(PATH, chat(version)))
    await eventually(lambda: redis_client.zcard(keys.queue(version.key)))
    response = await api.post(PATH, chat(version, stream=stream, user="another"))
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_busy"
    assert int(response["Retry-After"]) >= 1
    await scripted_host.answer(Started(3), Finished("stop", Usage(3, 0)))
    assert (await waiting).status_code == 200


async def test_n_that_the_queue_cannot_hold_queues_none(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
    redis_client: "redis.Redis",
):
    configure(max_queue_size=2)
    response = await api.post(PATH, chat(version, n=3))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"
    waiting = asyncio.create_task(api.post(PATH, chat(version)))
    await eventually(lambda: redis_client.zcard(keys.queue(version.key)))
    assert (await api.post(PATH, chat(version, n=2, user="another"))).status_code == 503
    assert redis_client.zcard(keys.queue(version.key)) == 1
    await scripted_host.answer(Started(3), Finished("stop", Usage(3, 0)))
    assert (await waiting).status_code == 200
    assert redis_client.zcard(keys.queue(version.key)) == 0


async def test_too_many_requests_at_once_are_503(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
):
    configure(max_concurrent_requests=1)
    first = asyncio.create_task(api.post(PATH, chat(version)))
    item = await asyncio.to_thread(scripted_host.claim)
    assert (await api.post(PATH, chat(version))).json()["error"]["code"] == "model_busy"
    scripted_host.publish(item, [Started(3), Finished("stop", Usage(3, 0))])
    assert (await first).status_code == 200


async def test_too_many_requests_for_one_model_are_busy_and_others_are_not(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
    embedding_model: FakeModel,
):
    configure(max_concurrent_per_model=1)
    first = asyncio.create_task(api.post(PATH, chat(version)))
    item = await asyncio.to_thread(scripted_host.claim)
    refused = await api.post(PATH, chat(version))
    assert refused.status_code == 503
    assert int(refused["Retry-After"]) > 0
    assert "INFERENCE_MAX_CONCURRENT_PER_MODEL" in refused.json()["error"]["message"]
    other = {"model": embedding_model.slug, "input": "Hi"}
    assert (await api.post("/v1/embeddings", other)).status_code == 200
    scripted_host.publish(item, [Started(3), Finished("stop", Usage(3, 0))])
    assert (await first).status_code == 200


async def test_place_is_free_again_after_every_ending(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
):
    configure(max_concurrent_requests=1)
    for frames in (
        [Failed("host_lost", "gone")],
        [Started(3), Failed("host_lost", "gone")],
        [Started(3), Finished("stop", Usage(3, 1))],
    ):
        request = asyncio.create_task(api.post(PATH, chat(version)))
        await scripted_host.answer(*frames)
        assert (await request).status_code in (200, 503)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("context_length_exceeded", 400),
        ("queue_timeout", 503),
        ("host_lost", 503),
        ("poison_request", 500),
        ("never heard of", 500),
    ],
)
async def test_first_frame_failed_gives_its_status(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    stream: bool,
    code: str,
    status: int,
):
    request = asyncio.create_task(api.post(PATH, chat(version, stream=stream)))
    await scripted_host.answer(Failed(code, "It went wrong."))
    response = await request
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    assert response.json()["error"]["message"] == "It went wrong."
    assert ("Retry-After" in response.headers) == (status == 503)


async def test_failure_after_the_first_frame_is_one_error_event_and_the_end(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    request = asyncio.create_task(api.post(PATH, chat(version, stream=True)))
    item = await scripted_host.answer(
        Started(3), Delta("par", [1]), Failed("host_lost", "The process died.")
    )
    response = await request
    assert response.status_code == 200
    body = await body_of(response)
    *chunks, error = sse_events(body)
    assert b"[DONE]" not in body
    assert list(error) == ["error"]
    assert error["error"]["code"] == "host_lost"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "par"
    record = await record_of(run_id_of(item.id))
    assert (record.outcome, record.error_code) == ("failed", "host_lost")


async def test_failure_of_one_choice_stops_the_others(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
):
    request = asyncio.create_task(api.post(PATH, chat(version, n=2)))
    await scripted_host.answer(Started(3), Failed("poison_request", "Twice."))
    response = await request
    assert response.status_code == 500
    assert redis_client.zcard(keys.queue(version.key)) == 0


async def test_heartbeats_are_comments(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
):
    configure(sse_heartbeat_seconds=0.05)
    request = asyncio.create_task(api.post(PATH, chat(version, stream=True)))
    item = await scripted_host.answer(Started(3))
    content = aiter((await request).streaming_content)
    chunks = [await anext(content)]
    while not chunks[-1].startswith(b": "):
        chunks.append(await anext(content))
    scripted_host.publish(item, [Delta("x", [1]), Finished("stop", Usage(3, 1))], after=1)
    chunks.extend([chunk async for chunk in content])
    # As OpenAI's SDK reads it: an event without data would be an error there.
    events = list(SSEDecoder().iter_bytes(iter(chunks)))
    assert events[-1].data == "[DONE]"
    assert all(event.data for event in events)


async def test_request_that_no_host_takes_ends_with_queue_timeout(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    configure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    redis_client: "redis.Redis",
):
    monkeypatch.setattr("inference.runs.host_run.FIRST_FRAME_SLACK_SECONDS", 0.0)
    configure(queue_timeout_seconds=0.1)
    response = await api.post(PATH, chat(version))
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "queue_timeout"
    assert redis_client.zcard(keys.queue(version.key)) == 0


@asynccontextmanager
async def http_request(api: Api, body: Any) -> AsyncIterator[ApplicationCommunicator]:
    """A POST through the whole ASGI application, whose client may leave."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"authorization", f"Bearer {api.secret}".encode()),
            (b"content-type", b"application/json"),
        ],
    }
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": json.dumps(body).encode()})
    yield communicator
    await communicator.wait(timeout=10)


async def test_client_that_leaves_mid_stream_stops_the_generation(api: Api, model: FakeModel):
    model.take_time(0.01)
    async with http_request(api, chat(model.version, stream=True)) as communicator:
        start = await communicator.receive_output(timeout=10)
        assert start["status"] == 200
        seen = b""
        while seen.count(b"data: ") < 5:
            seen += (await communicator.receive_output(timeout=10))["body"]
        await communicator.send_input({"type": "http.disconnect"})
    run_id = sse_events(seen.rpartition(b"\n\n")[0] + b"\n\n")[0]["id"]
    record = await record_of(run_id)
    assert record.outcome == "cancelled"
    assert 0 < record.completion_tokens < 500
    assert record.prompt_tokens > 0
    await eventually(lambda: model.engine.is_idle)
    model.engine.check_integrity()


async def test_client_that_leaves_before_the_answer_stops_the_generation(
    api: Api, model: FakeModel, redis_client: "redis.Redis"
):
    model.take_time(0.01)
    async with http_request(api, chat(model.version)) as communicator:
        await eventually(lambda: model.engine.running_sequences)
        await communicator.send_input({"type": "http.disconnect"})
    await eventually(lambda: model.engine.is_idle)


async def test_client_that_leaves_while_waiting_is_taken_out_of_the_queue(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
):
    async with http_request(api, chat(version, stream=True)) as communicator:
        await eventually(lambda: redis_client.zcard(keys.queue(version.key)))
        await communicator.send_input({"type": "http.disconnect"})
    await eventually(lambda: redis_client.zcard(keys.queue(version.key)) == 0)
    await eventually(lambda: not service.places.total())


async def test_stream_that_is_never_read_stops_its_generation(
    api: Api, model: FakeModel, service: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("inference.api.delivery.UNREAD_SECONDS", 0.1)
    # A client may leave after the view has returned and before the first byte is asked for.
    model.take_time(0.01)
    response = await api.post(PATH, chat(model.version, stream=True, user="unread"))
    assert response.status_code == 200
    assert len(service.streaming) == 1
    await eventually(lambda: model.engine.is_idle)
    await eventually(lambda: not service.streaming)
    (record,) = await recorded()
    assert record.end_user == "unread"
    assert record.outcome == "cancelled"
    assert record.completion_tokens > 0


async def test_stream_that_waits_longer_than_an_unread_one_is_kept(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("inference.api.delivery.UNREAD_SECONDS", 0.05)
    body = {"model": version.model.slug, "prompt": "Hi", "stream": True}
    first = asyncio.create_task(api.post("/v1/completions", body))
    item = await asyncio.to_thread(scripted_host.claim)
    again = await api.get(f"/v1/streams/{run_id_of(item.id)}")
    reading = asyncio.create_task(body_of(again))
    done, _ = await asyncio.wait([reading], timeout=0.3)
    assert not done
    scripted_host.publish(item, [Started(3), Delta("x", [1]), Finished("stop", Usage(3, 1))])
    assert sse_events(await reading)[-1] == "[DONE]"
    assert (await first).status_code == 200


async def test_place_is_kept_until_an_abandoned_run_is_stopped(
    api: Api, service: Runtime, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
):
    stopped = asyncio.Event()

    async def stop(_run: HostRun) -> None:
        await stopped.wait()

    async def fail(*_: object) -> None:
        raise redis.TimeoutError("late")

    monkeypatch.setattr(HostRun, "_stop_surely", stop)
    monkeypatch.setattr("inference.runs.host_run.enqueue", fail)
    assert (await api.post(PATH, chat(version))).status_code == 503
    assert service.places.total() == 1
    stopped.set()
    await eventually(lambda: not service.places.total())


async def test_generation_carries_what_was_asked(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    fields = {
        "max_tokens": 9,
        "stop": "END",
        "seed": -1,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "repeat_penalty": 1.1,
        "logit_bias": {"5": -100},
        "priority": 3,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 4,
    }
    request = asyncio.create_task(api.post(PATH, chat(version, **fields)))
    item = await scripted_host.answer(Started(3), Finished("stop", Usage(3, 0)))
    await request
    assert isinstance(item, Generation)
    sampling = item.sampling
    assert (item.max_tokens, item.stop, item.priority) == (9, ("END",), 3)
    assert (item.ignore_eos, item.top_logprobs) == (True, 4)
    assert sampling.seed == 2**32 - 2
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 7)
    assert (sampling.min_p, sampling.repeat_penalty) == (0.1, 1.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.2, 0.3)
    assert sampling.logit_bias == {5: -100}
