"""The openai SDK."""

import json
from typing import Any

import pytest
from openai import OpenAI


@pytest.fixture
def client(service) -> OpenAI:
    return OpenAI(base_url=service.base_url, api_key=service.api_key, max_retries=0)


def asked(service, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": service.model, "messages": messages, "temperature": 0, "max_tokens": 60}


def test_chat(client, service):
    answer = client.chat.completions.create(**asked(service, service.question))
    assert len(answer.choices[0].message.content.split()) > 3
    assert 3 < answer.usage.completion_tokens <= 60


def test_stream(client, service):
    chunks = list(
        client.chat.completions.create(
            **asked(service, service.question), stream=True, stream_options={"include_usage": True}
        )
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert len("".join(choice.delta.content or "" for choice in choices).split()) > 3
    assert choices[-1].finish_reason in ("stop", "length")
    assert 3 < chunks[-1].usage.completion_tokens <= 60


def test_tool_round(client, service):
    request = asked(service, service.weather_question)
    answer = client.chat.completions.create(
        **request, tools=[service.weather_tool], tool_choice="required"
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    result = {"role": "tool", "tool_call_id": call.id, "content": service.weather}
    request["messages"] += [message, result, {"role": "user", "content": service.after_weather}]
    final = client.chat.completions.create(
        **request, tools=[service.weather_tool], tool_choice="none"
    )
    assert final.choices[0].finish_reason in ("stop", "length")
    assert "Paris" in final.choices[0].message.content


def test_structured_answer(client, service):
    answer = client.chat.completions.parse(
        **asked(service, service.facts), response_format=service.person
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, service.person)
    assert parsed.age == 36
