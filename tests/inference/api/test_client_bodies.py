"""Bodies of current clients and schemas of current tool servers, which all are served."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from inference.api.openai.chat import chat_order
from inference.api.openai.completions import completion_order
from inference.database import in_database
from inference.orders.hints import hints_in
from inference.orders.inputs import token_inputs
from inference.orders.parsing import parse
from inference.orders.requests import ChatRequest, CompletionRequest, EmbeddingsRequest
from inference.orders.template_variables import template_variables
from inference.runs.runtime import Runtime
from tests.stack import Api, FakeModel, register_version

KINDS: dict[str, type[Struct]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/embeddings": EmbeddingsRequest,
}


def records(folder: str) -> list[Any]:
    files = sorted((Path(__file__).parent / folder).glob("*.json"))
    assert files
    return [pytest.param(json.loads(file.read_text()), id=file.stem) for file in files]


@pytest.mark.parametrize("record", records("client_bodies"))
def test_body_of_a_client_is_accepted(record: dict[str, Any]):
    kind = KINDS[record["route"]]
    assert isinstance(parse(record["body"], kind), kind)


@pytest.mark.parametrize("record", records("client_bodies"))
def test_body_of_a_client_has_these_hints_and_no_others(record: dict[str, Any]):
    body = parse(record["body"], KINDS[record["route"]])
    unread: tuple[str, ...] = ()
    if isinstance(body, ChatRequest):
        # A template that knows neither effort nor switch of reasoning.
        body.chat_template_kwargs = None
        _, unread = template_variables(body, "reasoning_content")
    assert sorted([*hints_in(record["body"]), *unread]) == sorted(record["ignored"])


@pytest.mark.parametrize("record", records("client_bodies"))
async def test_body_of_a_client_becomes_an_order(
    database: None, service: Runtime, smollm2_path: Path, record: dict[str, Any]
):
    size = {"context_length_tokens": 131_072, "kv_cells": 131_072}
    version = await in_database(register_version, smollm2_path, **size)
    body = parse(record["body"] | {"model": version.model.slug}, KINDS[record["route"]])
    if isinstance(body, ChatRequest):
        assert (await chat_order(service, body)).prompts
    elif isinstance(body, CompletionRequest):
        assert (await completion_order(service, body)).prompts
    else:
        spec = await service.resolver.resolve(body.model, "text_generation")
        assert await token_inputs(service.tokenizer, spec, body.input, "input", most=2048)


async def offered(api: Api, model: FakeModel, tool: dict[str, Any]) -> Any:
    model.say("Hello")
    messages = [{"role": "user", "content": "Hi"}]
    return await api.post(
        "/v1/chat/completions", {"model": model.slug, "messages": messages, "tools": [tool]}
    )


@pytest.mark.parametrize("record", records("tool_schemas"))
async def test_schema_of_a_tool_server_is_served_and_says_what_is_not_enforced(
    api: Api, model: FakeModel, record: dict[str, Any]
):
    response = await offered(api, model, record["tool"])
    assert response.status_code == 200, response.content
    ignored = response.headers.get("Brigade-Ignored", "")
    assert ("tools[0].function.parameters" in ignored) == bool(record["unenforced"]), ignored
    for keyword in record["unenforced"]:
        assert keyword in ignored


@pytest.mark.parametrize("record", records("tool_schemas"))
async def test_schema_that_cannot_be_enforced_is_refused_where_the_tool_is_strict(
    api: Api, model: FakeModel, record: dict[str, Any]
):
    tool = copy.deepcopy(record["tool"])
    tool["function"]["strict"] = True
    response = await offered(api, model, tool)
    if not record["unenforced"]:
        assert response.status_code == 200, response.content
        return
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "tools[0].function.parameters"
    # The compiler of regular expressions does not name the keyword.
    assert any(word in error["message"] for word in (*record["unenforced"], "regex"))
