# mypy: disable-error-code="import-not-found"
"""LangChain's ChatOpenAI."""

from typing import Any, Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Weather of a city."""
    return f"18 degrees and sunny in {city}"


@pytest.fixture
def chat(service) -> ChatOpenAI:
    return ChatOpenAI(
        model=service.model,
        base_url=service.base_url,
        api_key=service.api_key,
        temperature=0,
        max_tokens=60,
        max_retries=0,
        stream_usage=True,
    )


def test_chat(chat, service):
    answer = chat.invoke(service.question)
    assert len(answer.content.split()) > 3
    assert 3 < answer.usage_metadata["output_tokens"] <= 60


def test_stream(chat, service):
    first, *others = chat.stream(service.question)
    assert others
    whole: Any = first
    for chunk in others:
        whole += chunk
    assert len(whole.content.split()) > 3
    assert 3 < whole.usage_metadata["output_tokens"] <= 60


def test_tool_round(chat, service):
    asked = HumanMessage(service.weather_question)
    answer = chat.bind_tools([get_weather], tool_choice="any").invoke([asked])
    (call,) = answer.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"]["city"] in ("Paris", "Rome")
    result = get_weather.invoke(call)
    history = [asked, answer, result, HumanMessage(service.after_weather)]
    final = chat.bind_tools([get_weather], tool_choice="none").invoke(history)
    assert not final.tool_calls
    assert "Paris" in final.content


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_answer(chat, service, method: str):
    parsed = chat.with_structured_output(service.person, method=method).invoke(service.facts)
    assert isinstance(parsed, service.person)
    assert parsed.age == 36
