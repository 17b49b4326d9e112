# mypy: disable-error-code="import-not-found"
"""LiteLLM as a library."""

import json
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # It is fetched from the network otherwise.

import litellm
import pytest


@pytest.fixture
def complete(service):
    def complete(messages: Any, **fields: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return litellm.completion(
            model=f"openai/{service.model}",
            api_base=service.base_url,
            api_key=service.api_key,
            messages=messages,
            temperature=0,
            max_tokens=60,
            num_retries=0,
            **fields,
        )

    return complete


def test_chat(complete, service):
    answer = complete(service.question)
    assert len(answer.choices[0].message.content.split()) > 3
    assert 3 < answer.usage.completion_tokens <= 60


def test_stream(complete, service):
    chunks = list(complete(service.question, stream=True, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert len("".join(choice.delta.content or "" for choice in choices).split()) > 3
    assert 3 < chunks[-1].usage.completion_tokens <= 60


def test_tool_round(complete, service):
    messages: list[Any] = [{"role": "user", "content": service.weather_question}]
    message = (
        complete(messages, tools=[service.weather_tool], tool_choice="required").choices[0].message
    )
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    result = {
        "role": "tool",
        "tool_call_id": call.id,
        "name": "get_weather",
        "content": service.weather,
    }
    messages += [message, result, {"role": "user", "content": service.after_weather}]
    final = complete(messages, tools=[service.weather_tool], tool_choice="none")
    assert "Paris" in final.choices[0].message.content


def test_structured_answer(complete, service):
    answer = complete(service.facts, response_format=service.person)
    parsed = service.person.model_validate_json(answer.choices[0].message.content)
    assert parsed.age == 36
