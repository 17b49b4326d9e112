"""Tool calls with the official SDK, unchanged."""

import asyncio
import json
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.inference.api.test_sdk import sdk  # noqa: F401 - fixture
from tests.inference.orders.tools.examples import JSON_CALL, JSON_CLOCK, WEATHER_SCHEMA
from tests.stack import FakeModel

TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER_SCHEMA}},
    {"type": "function", "function": {"name": "clock"}},
]
MESSAGES: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]


class GetWeather(pydantic.BaseModel):
    """Arguments as the SDK's helpers describe them."""

    city: str
    unit: Literal["celsius", "fahrenheit"] | None


async def test_sdk_calls_a_tool_and_sends_the_result(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    model.say(JSON_CALL)
    create = sdk.chat.completions.create
    called = await create(model=model.slug, messages=MESSAGES, tools=TOOLS, tool_choice="required")
    choice = called.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    model.say("18 degrees")
    result = {"role": "tool", "tool_call_id": call.id, "content": "18"}
    for message in (choice.message, choice.message.model_dump()):
        messages = [*MESSAGES, message, result]
        answer = await create(model=model.slug, messages=messages, tools=TOOLS)
        assert answer.choices[0].message.content == "18 degrees"


async def test_sdk_streams_calls(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    model.say(f"{JSON_CALL}\n{JSON_CLOCK}")
    stream = await sdk.chat.completions.create(
        model=model.slug, messages=MESSAGES, tools=TOOLS, stream=True
    )
    calls: dict[int, list[Any]] = {}
    async for chunk in stream:
        for piece in chunk.choices[0].delta.tool_calls or ():
            calls.setdefault(piece.index, []).append(piece)
    assert list(calls) == [0, 1]
    texts = ["".join(piece.function.arguments for piece in calls[index]) for index in (0, 1)]
    assert [json.loads(text) for text in texts] == [{"city": "Paris"}, {}]
    assert [sum(piece.id is not None for piece in calls[index]) for index in (0, 1)] == [1, 1]


async def test_sdk_stream_helper_puts_calls_together(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    arguments = '{"city": "Paris", "unit": "celsius"}'
    model.say(f'{{"name": "GetWeather", "arguments": {arguments}}}')
    tools: Any = [openai.pydantic_function_tool(GetWeather)]
    done: list[Any] = []
    async with sdk.chat.completions.stream(
        model=model.slug, messages=MESSAGES, tools=tools
    ) as stream:
        async for event in stream:
            if event.type == "tool_calls.function.arguments.done":
                done.append((event.name, event.arguments, event.parsed_arguments))
        answer = await stream.get_final_completion()
    assert done == [("GetWeather", arguments, GetWeather(city="Paris", unit="celsius"))]
    message = answer.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == done[0][2]
    # What the helper made of an answer can be given back as it is.
    model.say("18 degrees")
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "18"}
    messages: list[Any] = [*MESSAGES, message, result]
    again = await sdk.chat.completions.create(model=model.slug, messages=messages, tools=tools)
    assert again.choices[0].message.content == "18 degrees"


async def test_sdk_parses_calls(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    model.say('{"name": "GetWeather", "arguments": {"city": "Paris", "unit": null}}')
    tools: Any = [openai.pydantic_function_tool(GetWeather)]
    answer = await sdk.chat.completions.parse(model=model.slug, messages=MESSAGES, tools=tools)
    assert answer.choices[0].message.tool_calls is not None
    parsed = answer.choices[0].message.tool_calls[0].function.parsed_arguments
    assert parsed == GetWeather(city="Paris", unit=None)


async def test_sdk_raises_its_own_error_for_a_bad_tool(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    with pytest.raises(openai.BadRequestError) as bad:
        await sdk.chat.completions.create(
            model=model.slug,
            messages=MESSAGES,
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "nothing"}},
        )
    assert bad.value.param == "tool_choice"


async def test_sdk_calls_of_many_at_once_do_not_mix(sdk: openai.AsyncOpenAI, model: FakeModel):  # noqa: F811
    model.say(JSON_CALL)

    async def call_id() -> str:
        answer = await sdk.chat.completions.create(model=model.slug, messages=MESSAGES, tools=TOOLS)
        assert answer.choices[0].message.tool_calls is not None
        return answer.choices[0].message.tool_calls[0].id

    assert len(set(await asyncio.gather(*(call_id() for _ in range(8))))) == 8
