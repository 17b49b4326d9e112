"""Tool calls over HTTP, against a host in this process that keeps to the request's grammar."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from inference.answers.tool_calls import call_id
from inference.database import in_database
from inference.messages import Cancel, Delta, Finished, Generation, Started, Usage
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion
from tests.inference.orders.tools.examples import JSON_CALL, JSON_CLOCK, WEATHER_SCHEMA, template
from tests.stack import (
    Api,
    FakeModel,
    ScriptedHost,
    body_of,
    eventually,
    record_of,
    register_version,
    sse_events,
)

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": WEATHER_SCHEMA},
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def chat(slug: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Weather in Paris?"}]
    return {"model": slug, "messages": messages, "tools": [WEATHER, CLOCK], **fields}


async def answer(api: Api, model: FakeModel, **fields: Any) -> dict[str, Any]:
    """The first choice of an answer that is not streamed."""
    response = await api.post("/v1/chat/completions", chat(model.slug, **fields))
    assert response.status_code == 200, response.content
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def calls_of(chunks: list[Any], choice: int = 0) -> list[dict[str, Any]]:
    """Calls put together from a stream's chunks."""
    calls: list[dict[str, Any]] = []
    for chunk in chunks:
        for entry in chunk["choices"] if chunk != "[DONE]" else ():
            for piece in entry["delta"].get("tool_calls", ()) if entry["index"] == choice else ():
                if "id" in piece:
                    assert piece["index"] == len(calls)
                    calls.append({"id": piece["id"], "name": piece["function"]["name"], "text": ""})
                calls[piece["index"]]["text"] += piece["function"]["arguments"]
    return calls


@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
async def test_tools_called_in_a_whole_answer(api: Api, model: FakeModel, choice: Any):
    model.say(JSON_CALL)
    called = await answer(api, model, tool_choice=choice)
    assert called["finish_reason"] == "tool_calls"
    assert called["message"]["content"] is None
    (call,) = called["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}


async def test_tools_leave_an_answer_in_words_as_it_is(api: Api, model: FakeModel):
    model.say('{"temperature": 18}')
    said = await answer(api, model)
    assert said["message"]["content"] == '{"temperature": 18}'
    assert said["finish_reason"] == "stop"


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_tools_that_are_forced_are_called_whatever_the_model_wants(
    api: Api, model: FakeModel, choice: Any
):
    model.say("I would rather talk about something else." * 20)
    called = await answer(api, model, tool_choice=choice, max_tokens=300, temperature=0)
    assert called["message"]["content"] is None
    assert called["message"]["tool_calls"]


async def test_tools_that_must_not_be_called_are_not_shown(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    async def item_of(**fields: Any) -> Generation:
        request = asyncio.create_task(
            api.post("/v1/chat/completions", chat(version.model.slug, **fields))
        )
        item = await scripted_host.answer(
            Started(1), Delta(JSON_CALL, [1]), Finished("stop", Usage(1, 1))
        )
        said = (await request).json()["choices"][0]["message"]
        assert ("tool_calls" in said) == (fields["tool_choice"] == "auto")
        assert isinstance(item, Generation)
        return item

    shown, hidden = await item_of(tool_choice="auto"), await item_of(tool_choice="none")
    assert shown.grammar
    assert not hidden.grammar
    assert len(hidden.prompt_token_ids) < 30 < len(shown.prompt_token_ids)


async def test_tools_called_side_by_side(api: Api, model: FakeModel):
    other = JSON_CALL.replace("Paris", "Rome")
    model.say(f"{JSON_CALL}\n{JSON_CLOCK}\n{other}")
    called = await answer(api, model)
    assert [call["function"]["name"] for call in called["message"]["tool_calls"]] == [
        "get_weather",
        "clock",
        "get_weather",
    ]
    assert len({call["id"] for call in called["message"]["tool_calls"]}) == 3
    alone = await answer(api, model, parallel_tool_calls=False)
    assert len(alone["message"]["tool_calls"]) == 1


async def test_tools_of_every_choice(api: Api, model: FakeModel):
    model.say(JSON_CALL)
    response = await api.post("/v1/chat/completions", chat(model.slug, n=3))
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in response.json()["choices"]]
    assert ids == [call_id(response.json()["id"], choice, 0) for choice in range(3)]


async def test_tools_called_in_a_stream(api: Api, model: FakeModel):
    model.say(f"{JSON_CALL}\n{JSON_CLOCK}")
    body = chat(model.slug, stream=True, stream_options={"include_usage": True})
    response = await api.post("/v1/chat/completions", body)
    *chunks, usage, done = sse_events(await body_of(response))
    assert done == "[DONE]"
    assert [(call["name"], json.loads(call["text"])) for call in calls_of(chunks)] == [
        ("get_weather", {"city": "Paris"}),
        ("clock", {}),
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["completion_tokens"] == len(f"{JSON_CALL}\n{JSON_CLOCK}") + 1


async def test_tools_arguments_are_streamed_while_they_are_written(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    request = asyncio.create_task(
        api.post("/v1/chat/completions", chat(version.model.slug, stream=True))
    )
    cut = JSON_CALL.index("Paris")
    item = await scripted_host.answer(Started(3), Delta(JSON_CALL[:cut], [1]))
    content = aiter((await request).streaming_content)
    body = b""
    while b"get_weather" not in body:
        body += await asyncio.wait_for(anext(content), 10)
    assert calls_of(sse_events(body))[0]["text"] == '{"city": "'
    scripted_host.publish(item, [Delta(JSON_CALL[cut:], [2]), Finished("stop", Usage(3, 2))], 2)
    body += b"".join([part async for part in content])
    assert calls_of(sse_events(body))[0]["text"] == '{"city": "Paris"}'


@pytest.mark.parametrize("n", [1, 2])
async def test_tools_in_a_stream_resumed_anywhere(api: Api, model: FakeModel, n: int):
    model.take_time(0.001)
    model.say(f"{JSON_CALL}\n{JSON_CLOCK}")
    response = await api.post("/v1/chat/completions", chat(model.slug, stream=True, n=n))
    whole = await body_of(response)
    run_id = sse_events(whole)[0]["id"]
    ids = [line[4:] for line in whole.decode().split("\n") if line.startswith("id: ")]
    blocks = whole.split(b"\n\n")
    for cut in range(0, len(ids), 3):
        rest = await body_of(await api.get(f"/v1/streams/{run_id}", **{"Last-Event-ID": ids[cut]}))
        places = [line[4:].split(",") for line in rest.decode().split("\n") if line[:4] == "id: "]
        for place in places:
            # Who is cut off again must not be sent back behind what was seen before.
            assert all(
                int(now) >= int(then) for now, then in zip(place, ids[cut].split(","), strict=True)
            )
        # Before the first frame nothing was seen, so such a reader begins again.
        seen = b"" if set(ids[cut].split(",")) == {"0"} else b"\n\n".join(blocks[: cut + 1])
        events = sse_events(seen + b"\n\n" + rest)
        for choice in range(n):
            assert calls_of(events, choice) == calls_of(sse_events(whole), choice), cut


async def test_tools_call_that_is_cut_keeps_what_there_is(api: Api, model: FakeModel):
    model.say(JSON_CALL)
    cut = await answer(api, model, max_tokens=len(JSON_CALL) - 6)
    assert cut["finish_reason"] == "length"
    assert cut["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Pa'
    stopped = await answer(api, model, stop="is")
    assert stopped["finish_reason"] == "stop"
    assert stopped["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Par'


async def test_tools_results_go_on_with_the_conversation(api: Api, model: FakeModel):
    model.say(JSON_CALL)
    called = (await answer(api, model))["message"]
    model.say("18 degrees")
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "18"}
    messages = [{"role": "user", "content": "Weather?"}, called, result]
    assert (await answer(api, model, messages=messages))["message"]["content"] == "18 degrees"
    none: list[Any] = [None, []]
    for tools in none:
        said = await answer(api, model, messages=messages, tools=tools)
        assert said["message"]["content"] == "18 degrees"
    response = await api.post("/v1/chat/completions", chat(model.slug, messages=messages[1:2]))
    assert response.status_code == 400
    assert "result" in response.json()["error"]["message"]
    counted = await api.post("/v1/tokenize", {"model": model.slug, "messages": messages})
    assert counted.json()["count"] > 10


async def test_tools_with_logprobs_of_a_call_have_none(api: Api, model: FakeModel):
    model.say(JSON_CALL)
    assert (await answer(api, model, logprobs=True))["logprobs"] is None


async def test_tools_of_a_model_with_its_own_template(
    api: Api, service: Runtime, smollm2_path: Path
):
    version = await in_database(register_version, smollm2_path, chat_template=template("qwen2.5"))
    response = await api.post(
        "/v1/tokenize",
        {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]},
    )
    assert response.status_code == 200
    refused = await api.post("/v1/chat/completions", chat(version.model.slug))
    # Everything about the request is right; there is just no host.
    assert refused.status_code == 503, refused.content


@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_tools_called_again_end_the_answer(
    api: Api, service: Runtime, model: FakeModel, choice: str
):
    spaced = JSON_CALL.replace('{"city": "Paris"}', '{ "city":"Paris" }')
    model.say("\n".join([JSON_CALL, JSON_CLOCK, *[spaced] * 5]))
    fields = {"tool_choice": choice, "parallel_tool_calls": True}
    called = await answer(api, model, **fields)
    names = [call["function"]["name"] for call in called["message"]["tool_calls"]]
    assert names == ["get_weather", "clock"]
    assert called["finish_reason"] == "tool_calls"
    body = chat(model.slug, stream=True, **fields)
    *chunks, _ = sse_events(await body_of(await api.post("/v1/chat/completions", body)))
    assert [call["name"] for call in calls_of(chunks)] == names
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert (await record_of(chunks[0]["id"])).outcome == "finished"


async def test_tools_called_again_stop_the_model(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    request = asyncio.create_task(api.post("/v1/chat/completions", chat(version.model.slug)))
    item = await scripted_host.answer(Started(3), Delta(f"{JSON_CALL}\n{JSON_CALL}", [1]))
    controls: list[Any] = []

    def is_told_to_stop() -> bool:
        controls.extend(scripted_host.claims.controls())
        return bool(controls)

    await eventually(is_told_to_stop)
    assert controls == [Cancel(item.id)]
    ended = [Finished("cancelled", Usage(3, 9))]
    await asyncio.to_thread(scripted_host.publish, item, ended, after=2)
    content = (await request).json()
    (choice,) = content["choices"]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["finish_reason"] == "tool_calls"
    assert content["usage"]["completion_tokens"] == 9
    assert (await record_of(content["id"])).outcome == "finished"


@pytest.mark.parametrize(
    ("schema", "unenforced"),
    [
        ({"not": {"required": ["b"]}}, "not"),
        ({"if": {}, "then": {}}, "if then"),
        ({"properties": {"a": {"pattern": "^(?!x)"}}}, "pattern"),
        ({"properties": {"a": {"$ref": "https://example.com/a"}}}, "$ref"),
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "uniqueItems"),
        ({"properties": {"a": {"type": "uuid"}}}, "type"),
        ({"properties": {"a": {"type": "array", "minItems": {"$defs": 0}}}}, ""),
        ({"properties": {"a": {"type": "string", "nullable": True, "x-order": 1}}}, None),
        ({"properties": {"a": {"type": "integer", "minimum": 0, "exclusiveMinimum": True}}}, None),
    ],
)
async def test_tools_with_what_cannot_be_enforced_are_served_and_say_so(
    api: Api, model: FakeModel, schema: dict[str, Any], unenforced: str | None
):
    model.say('{"name": "f", "arguments": {}}')
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    body = chat(model.slug, tools=[CLOCK, tool], tool_choice="required")
    response = await api.post("/v1/chat/completions", body)
    assert response.status_code == 200, response.content
    place = "tools[1].function.parameters"
    named = [] if unenforced is None else unenforced.split() or [""]
    expected = ", ".join(f"{place}: {keyword}" if keyword else place for keyword in named)
    assert response.get("Brigade-Ignored", "") == expected
    tool["function"]["strict"] = True
    strict = await api.post("/v1/chat/completions", body)
    assert strict.status_code == (200 if unenforced is None else 400)


@pytest.mark.parametrize(
    "tool",
    [
        {"parameters": {"properties": {"a": {"pattern": "("}}}, "strict": True},
        {"description": "a\0b"},
        {"parameters": {"properties": {"a\ufdd0": {}}}},
        {"parameters": {"properties": {"a": {"description": "\ufdd1"}}}},
    ],
)
async def test_tools_that_cannot_be_used_are_refused(
    api: Api, service: Runtime, smollm2_path: Path, tool: dict[str, Any]
):
    version = await in_database(register_version, smollm2_path, chat_template=template("qwen2.5"))
    broken = {"type": "function", "function": {"name": "f", **tool}}
    response = await api.post("/v1/chat/completions", chat(version.model.slug, tools=[broken]))
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("tools")
