# mypy: disable-error-code="import-not-found"
"""pydantic-ai over chat completions."""

import asyncio

import pytest
from pydantic_ai import Agent, NativeOutput, ToolDefinition
from pydantic_ai.direct import model_request_sync
from pydantic_ai.messages import (
    ModelRequest,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


@pytest.fixture
def chat(service) -> OpenAIChatModel:
    return OpenAIChatModel(
        service.model,
        provider=OpenAIProvider(base_url=service.base_url, api_key=service.api_key),
        settings={"temperature": 0, "max_tokens": 60},
    )


def test_chat(chat, service):
    answer = Agent(chat).run_sync(service.question)
    assert len(answer.output.split()) > 3
    assert 3 < answer.usage.output_tokens <= 60


def test_stream(chat, service):
    async def pieces() -> list[str]:
        async with Agent(chat).run_stream(service.question) as stream:
            return [piece async for piece in stream.stream_text(delta=True)]

    said = asyncio.run(pieces())
    assert len(said) > 1
    assert len("".join(said).split()) > 3


def test_tool_round(chat, service):
    function = service.weather_tool["function"]
    weather = ToolDefinition(
        name=function["name"],
        description=function["description"],
        parameters_json_schema=function["parameters"],
    )
    asked = ModelRequest.user_text_prompt(service.weather_question)
    forced = ModelRequestParameters(function_tools=[weather], allow_text_output=False)
    answer = model_request_sync(chat, [asked], model_request_parameters=forced)
    (call,) = [part for part in answer.parts if isinstance(part, ToolCallPart)]
    assert call.tool_name == "get_weather"
    assert call.args_as_dict()["city"] in ("Paris", "Rome")
    result = ToolReturnPart("get_weather", service.weather, call.tool_call_id)
    more = UserPromptPart(service.after_weather)
    final = model_request_sync(chat, [asked, answer, ModelRequest([result, more])])
    assert "Paris" in "".join(part.content for part in final.parts if isinstance(part, TextPart))


@pytest.mark.parametrize("mode", ["tool", "native"])
def test_structured_answer(chat, service, mode: str):
    output = service.person if mode == "tool" else NativeOutput(service.person)
    parsed = Agent(chat, output_type=output).run_sync(service.facts).output
    assert isinstance(parsed, service.person)
    assert parsed.age == 36
