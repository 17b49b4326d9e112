"""The official SDK, talking to the application in this process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from inference.messages import Delta, Failed, Started
from inference.runs.runtime import Runtime
from inference_site.asgi import django_application
from models_registry.models import ModelVersion
from tests.stack import Api, FakeModel, ScriptedHost

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def sdk(api: Api, service: Runtime) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK's asynchronous client, without a network."""
    transport = httpx2.ASGITransport(app=django_application)
    async with openai.AsyncOpenAI(
        api_key=api.secret,
        base_url="http://testserver/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        yield client


async def test_sdk_chat(sdk: openai.AsyncOpenAI, model: FakeModel):
    model.say("Hello")
    answer = await sdk.chat.completions.create(model=model.slug, messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_sdk_gives_an_answer_back_in_the_next_turn(sdk: openai.AsyncOpenAI, model: FakeModel):
    model.say("Hello")
    answer = await sdk.chat.completions.create(model=model.slug, messages=MESSAGES)
    for message in (answer.choices[0].message, answer.choices[0].message.model_dump()):
        messages: list[Any] = [*MESSAGES, message, *MESSAGES]
        again = await sdk.chat.completions.create(model=model.slug, messages=messages)
        assert again.choices[0].message.content == "Hello"


async def test_sdk_streams(sdk: openai.AsyncOpenAI, model: FakeModel):
    model.say("Hello")
    stream = await sdk.chat.completions.create(
        model=model.slug,
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


async def test_sdk_stream_helper_puts_the_answer_together(
    sdk: openai.AsyncOpenAI, model: FakeModel
):
    model.say("Hello")
    async with sdk.chat.completions.stream(
        model=model.slug, messages=MESSAGES, logprobs=True, top_logprobs=1
    ) as stream:
        answer = await stream.get_final_completion()
    choice = answer.choices[0]
    assert choice.message.content == "Hello"
    assert choice.finish_reason == "stop"
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert [entry.token for entry in choice.logprobs.content] == list("Hello")


async def test_sdk_completion(sdk: openai.AsyncOpenAI, model: FakeModel):
    model.say("abc")
    answer = await sdk.completions.create(model=model.slug, prompt=["x", "y"], logprobs=1)
    assert [choice.text for choice in answer.choices] == ["abc", "abc"]
    stream = await sdk.completions.create(model=model.slug, prompt="x", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == "abc"


async def test_sdk_embeddings_arrive_as_numbers(
    sdk: openai.AsyncOpenAI, embedding_model: FakeModel
):
    answer = await sdk.embeddings.create(model=embedding_model.slug, input=["one", "two"])
    assert np.linalg.norm(answer.data[1].embedding) == pytest.approx(1)
    assert len(answer.data[0].embedding) == 4


async def test_sdk_models(sdk: openai.AsyncOpenAI, version: ModelVersion):
    listed = [entry.id async for entry in sdk.models.list()]
    assert listed == [version.model.slug]
    assert (await sdk.models.retrieve(version.model.slug)).owned_by


async def test_sdk_raises_its_own_errors(sdk: openai.AsyncOpenAI, version: ModelVersion):
    create = sdk.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        await create(model="nothing", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model=version.model.slug, messages=MESSAGES, temperature=9)
    assert bad.value.param == "temperature"
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.AuthenticationError):
        await sdk.with_options(api_key="sk-brigade-no").models.list()
    with pytest.raises(openai.InternalServerError) as absent:
        await create(model=version.model.slug, messages=MESSAGES)
    assert absent.value.status_code == 503
    assert absent.value.response.headers["Retry-After"]


async def test_sdk_raises_for_a_failure_mid_stream(
    sdk: openai.AsyncOpenAI, version: ModelVersion, scripted_host: ScriptedHost
):
    async def read() -> list[Any]:
        stream = await sdk.chat.completions.create(
            model=version.model.slug, messages=MESSAGES, stream=True
        )
        return [chunk async for chunk in stream]

    reading = asyncio.create_task(read())
    await scripted_host.answer(Started(3), Delta("x", [1]), Failed("host_lost", "It died."))
    with pytest.raises(openai.APIError, match=r"It died\.") as failure:
        await reading
    assert failure.value.code == "host_lost"
