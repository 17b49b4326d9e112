# mypy: disable-error-code="import-not-found"
"""instructor over the openai SDK."""

from typing import Any

import instructor
import pytest
from openai import OpenAI

MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]


def made(service, mode: instructor.Mode) -> instructor.Instructor:
    client = OpenAI(base_url=service.base_url, api_key=service.api_key, max_retries=0)
    return instructor.from_openai(client, mode=mode)


def asked(service, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": service.model, "messages": messages, "temperature": 0, "max_tokens": 60}


def test_chat(service):
    client = made(service, instructor.Mode.TOOLS)
    answer = client.chat.completions.create(response_model=None, **asked(service, service.question))
    assert len(answer.choices[0].message.content.split()) > 3


@pytest.mark.parametrize("mode", MODES)
def test_stream(service, mode: instructor.Mode):
    parts = list(
        made(service, mode).chat.completions.create_partial(
            response_model=service.person, **asked(service, service.facts)
        )
    )
    assert len(parts) > 1
    assert service.person.model_validate(parts[-1].model_dump()).age == 36


def test_tool_round(service):
    client = made(service, instructor.Mode.TOOLS)
    request = asked(service, service.facts)
    _, answer = client.chat.completions.create_with_completion(
        response_model=service.person, max_retries=0, **request
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert service.person.model_validate_json(call.function.arguments).age == 36
    result = {"role": "tool", "tool_call_id": call.id, "name": "Person", "content": "saved"}
    request["messages"] += [
        message.model_dump(),
        result,
        {"role": "user", "content": "Who is Ada?"},
    ]
    final = client.chat.completions.create(response_model=None, **request)
    assert "Ada" in final.choices[0].message.content


@pytest.mark.parametrize("mode", MODES)
def test_structured_answer(service, mode: instructor.Mode):
    parsed = made(service, mode).chat.completions.create(
        response_model=service.person, max_retries=0, **asked(service, service.facts)
    )
    assert isinstance(parsed, service.person)
    assert parsed.age == 36
