"""Steps that answer in place of a host plug in without any change to a view."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NoReturn

import pytest
import redis

from inference.database import in_database
from inference.errors import InferenceError
from inference.messages import Delta, Failed, Finished, Frame, Started, Usage
from inference.orders.chat import chat_order
from inference.orders.order import Order
from inference.orders.requests import ChatRequest
from inference.principal import Principal
from inference.runs import generate as seam
from inference.runs.generate import Generate
from inference.runs.memory_run import MemoryRun
from inference.runs.run import Run, header_of
from inference.runs.runtime import Runtime, runtime
from models_registry.catalogue.lookup import spec_of
from models_registry.models import ModelVersion
from tests.stack import Api, ScriptedHost, body_of, record_of, register_version, sse_events

PATH = "/v1/chat/completions"


def chat(version: ModelVersion, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": version.model.slug, "messages": messages, **fields}


@asynccontextmanager
async def from_memory(onward: Generate, order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Answer every order with the same text, without a host."""
    frames: list[Frame] = [Started(5), Delta("known", [1, 2]), Finished("stop", Usage(5, 2, 5))]
    yield MemoryRun(header_of(order, principal), [(0, frame) for frame in frames])


@asynccontextmanager
async def on_another_version(
    other: ModelVersion, onward: Generate, order: Order, principal: Principal
) -> AsyncIterator[Run]:
    """Try ``other`` when the version that was asked for fails before its first frame."""
    async with onward(order, principal) as run:
        if not isinstance(await run.peek(), Failed):
            yield run
            return
    assert isinstance(order.request, ChatRequest)
    spec = await in_database(spec_of, other, runtime().settings.models_dir)
    again = await chat_order(runtime(), order.request, spec)
    again = replace(again, run_id=order.run_id, attempt=order.attempt + 1)
    async with onward(again, principal) as run:
        yield run


@pytest.mark.parametrize("stream", [False, True])
async def test_step_answers_from_memory(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
):
    monkeypatch.setattr(seam, "STEPS", [*seam.STEPS, from_memory])
    response = await api.post(PATH, chat(version, stream=stream))
    assert response.status_code == 200
    if stream:
        *chunks, done = sse_events(await body_of(response))
        assert done == "[DONE]"
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        run_id = chunks[0]["id"]
    else:
        answer = response.json()
        text, run_id = answer["choices"][0]["message"]["content"], answer["id"]
        assert answer["usage"]["completion_tokens"] == 2
    assert text == "known"
    record = await record_of(run_id)
    assert (record.outcome, record.completion_tokens) == ("finished", 2)
    assert not service.streaming
    assert not service.places.total()


async def test_run_that_is_left_early_is_recorded_as_cancelled(
    service: Runtime, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seam, "STEPS", [*seam.STEPS, from_memory])
    spec = await service.resolver.resolve(version.model.slug, "text_generation")
    async with seam.generate(
        Order("chat", spec, [[1, 2, 3]]), Principal(7, "ann", frozenset())
    ) as run:
        await run.next()
    record = await record_of(run.header.id)
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("cancelled", 5, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_step_retries_on_another_version(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
):
    path = service.settings.models_dir / version.file_name
    other = await in_database(register_version, path)
    other_host = ScriptedHost(redis_client, other.key)
    retry = functools.partial(on_another_version, other)
    monkeypatch.setattr(seam, "STEPS", [*seam.STEPS, retry])
    request = asyncio.create_task(api.post(PATH, chat(version, stream=stream)))
    await scripted_host.answer(Failed("host_lost", "It died."))
    await other_host.answer(Started(3), Delta("so", [1]), Finished("stop", Usage(3, 1)))
    response = await request
    assert response.status_code == 200
    assert response["x-brigade-model-version"] == other.key
    body = await body_of(response) if stream else response.content
    assert other.model.slug in body.decode()
    assert "It died." not in body.decode()
    run_id = (sse_events(body)[0] if stream else response.json())["id"]
    assert (await record_of(run_id)).version_key == other.key


async def test_step_refuses_before_the_steps_behind_it(
    api: Api, service: Runtime, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
):
    def refused(onward: Generate, order: Order, principal: Principal) -> NoReturn:
        raise InferenceError("Not today.")

    monkeypatch.setattr(seam, "STEPS", [*seam.STEPS, refused])
    response = await api.post(PATH, chat(version))
    assert response.json()["error"]["message"] == "Not today."
    assert not service.places.total()
