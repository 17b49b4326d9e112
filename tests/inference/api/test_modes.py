"""Answers of several models through HTTP: calls, events, usage, stop, and dead conductors."""

import asyncio
import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis
from asgiref.testing import ApplicationCommunicator

from inference.database import in_database
from inference.ledger.left_runs import blank_old_texts, settle_left_runs
from inference.models import OrchestrationRun, RunStep
from inference.queue import keys
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion, Preset, PresetMember
from tests.inference.api.test_delivery import http_request
from tests.inference.engine.fake_backend import END_OF_GENERATION
from tests.inference.test_consumer_chat import socket_of
from tests.stack import Api, FakeModel, body_of, eventually, recorded, sse_events

PATH = "/v1/chat/completions"
VERDICT = json.dumps(
    {
        "thoughts": "",
        "issues": [{"quote": "falls up", "problem": "Wrong.", "fix": "down"}],
        "score": 2,
    }
)


# Its events tell when the first call is at work, and no longer on its way into the queue.
LONG: dict[str, Any] = {"stream": True, "max_tokens": 500, "orchestration": {"events": "text"}}


class Dialogue:
    """Says one text after another, each to the next prompt, byte by byte."""

    def __init__(self, *texts: str) -> None:
        self._texts = [[*text.encode(), END_OF_GENERATION] for text in texts]
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        self._texts_of: dict[tuple[int, ...], int] = {}

    def __call__(self, history: list[int]) -> int:
        text, place = self._places.get(tuple(history[:-1]), (-1, 0))
        if text < 0:
            # A prompt that is sent again has the same answer.
            text, place = self._texts_of.setdefault(tuple(history), len(self._texts_of)), -1
        self._places[tuple(history)] = text, place + 1
        return self._texts[text][place + 1]


def preset(model: FakeModel, mode: str, *parts: str, **fields: Any) -> str:
    made = Preset.objects.create(name=f"X-{mode}", orchestration_mode=mode, **fields)
    for position, part in enumerate(parts):
        PresetMember.objects.create(
            preset=made, position=position, role=part, model=model.version.model
        )
    return made.name


@pytest.fixture
async def critique(model: FakeModel) -> str:
    """A critique of one round by one model."""
    return await in_database(
        preset, model, "critique", "generator", "critic", settings={"max_rounds": 1}
    )


def chat(name: str, text: str = "What is rain?", **fields: Any) -> dict[str, Any]:
    return {"model": name, "messages": [{"role": "user", "content": text}], **fields}


def answer_of(events: list[Any]) -> str:
    deltas = [event["choices"][0]["delta"] for event in events[:-1] if event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def told(events: list[Any], name: str) -> list[dict[str, Any]]:
    phases = [event.get("orchestration", {}) for event in events if event != "[DONE]"]
    return [phase for phase in phases if phase.get("event") == name]


async def test_critique_answers_with_the_revision_and_the_sum_of_all_calls(
    api: Api, model: FakeModel, critique: str
):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    response = await api.post(PATH, chat(critique))
    content = response.json()
    assert content["choices"][0]["message"]["content"] == "Rain falls."
    assert (content["model"], content["choices"][0]["finish_reason"]) == (critique, "stop")
    steps = content["orchestration"]["steps"]
    assert [(step["key"], step["role"]) for step in steps] == [
        ("g", "generator"),
        ("c1", "critic"),
        ("v1", "generator"),
    ]
    usage = content["usage"]
    assert usage["completion_tokens"] == sum(step["completion_tokens"] for step in steps)
    hidden = usage["completion_tokens_details"]["reasoning_tokens"]
    assert hidden == usage["completion_tokens"] - steps[2]["completion_tokens"]
    assert content["inference_metadata"]["config"] == critique
    records = await recorded(3)
    assert sum(record.completion_tokens for record in records) == usage["completion_tokens"]
    assert {record.preset for record in records} == {critique}


async def test_critique_is_streamed_with_its_phases(api: Api, model: FakeModel, critique: str):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    body = chat(critique, stream=True, stream_options={"include_usage": True})
    events = sse_events(await body_of(await api.post(PATH, body)))
    assert answer_of(events) == "Rain falls."
    assert [event["step"] for event in told(events, "step_start")] == ["g", "c1", "v1"]
    assert [event["step"] for event in told(events, "step_end")] == ["g", "c1", "v1"]
    assert all(event["choices"][0]["delta"] == {} for event in events if told([event], "step_end"))
    *_, finish, usage, done = events
    assert (done, usage["choices"]) == ("[DONE]", [])
    assert finish["orchestration"] == usage["orchestration"]
    assert finish["orchestration"]["stopped_by"] == "max_rounds"
    # No text comes before the verdict.
    first_text = next(i for i, event in enumerate(events) if answer_of([event, None]))
    assert told(events[:first_text], "phase_end")


async def test_events_are_as_the_request_wants_them(api: Api, model: FakeModel, critique: str):
    for wanted, is_told in (("none", False), ("text", True)):
        model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
        body = chat(critique, stream=True, orchestration={"events": wanted})
        events = sse_events(await body_of(await api.post(PATH, body)))
        said = "".join(event["text"] for event in told(events, "step_text") if event["step"] == "g")
        assert said == ("Rain falls up." if is_told else "")
        assert bool(told(events, "step_start")) == is_told


async def test_run_is_read_again_by_a_second_client(api: Api, model: FakeModel, critique: str):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    events = sse_events(await body_of(await api.post(PATH, chat(critique, stream=True))))
    again = await api.get(f"/v1/streams/{events[0]['id']}")
    assert sse_events(await body_of(again)) == events


async def test_run_goes_on_after_the_end_of_its_process(
    api: Api, model: FakeModel, critique: str, redis_client: "redis.Redis"
):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    model.take_time(0.02)
    body = chat(critique, stream=True, orchestration={"events": "text"})
    async with http_request(api, body) as client:
        run_id = await _until(client, '"step_text","step":"c1"')
        conducting = [task for task in asyncio.all_tasks() if "Conductor." in repr(task)]
        for task in conducting:
            task.cancel()
        await asyncio.wait(conducting)
        redis_client.hset(keys.item(f"{run_id}.0"), "lease", "0")
        again = await api.get(f"/v1/streams/{run_id}")
        events = sse_events(await body_of(again))
    assert answer_of(events) == "Rain falls."
    assert [event["step"] for event in told(events, "step_start")] == ["g", "c1", "c1", "v1"]
    steps = await in_database(lambda: list(RunStep.objects.filter(run_id=run_id)))
    # The call that was under way was stopped with its process; the one before is not made again.
    assert [step.key for step in steps] == ["g", "c1", "c1", "v1"]


async def test_run_that_nobody_comes_back_for_is_ended(
    api: Api, model: FakeModel, critique: str, redis_client: "redis.Redis", service: Runtime
):
    model.take_time(0.02)
    async with http_request(api, chat(critique, **LONG)) as client:
        run_id = await _until(client, '"step_text"')
        for task in [task for task in asyncio.all_tasks() if "Conductor.conduct" in repr(task)]:
            task.cancel()
        settings = service.settings
        await in_database(settle_left_runs, redis_client, settings)
        assert (await in_database(OrchestrationRun.objects.get)).state == "running"
        redis_client.hset(keys.item(f"{run_id}.0"), "lease", "0")
        await in_database(settle_left_runs, redis_client, settings)
        assert (await in_database(OrchestrationRun.objects.get)).state == "cancelled"
    (record,) = await recorded(1)
    assert record.outcome == "cancelled"


async def test_texts_of_calls_are_deleted_after_some_time(
    api: Api, model: FakeModel, critique: str, configure: Callable[..., None], service: Runtime
):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    await api.post(PATH, chat(critique))
    await in_database(blank_old_texts, service.settings)
    assert await in_database(RunStep.objects.filter(text="Rain falls.").exists)
    soon = dataclasses.replace(service.settings.orchestration, text_ttl_seconds=0)
    configure(orchestration=soon)
    await in_database(blank_old_texts, service.settings)
    steps = await in_database(lambda: list(RunStep.objects.all()))
    assert {(step.text, bytes(step.said)) for step in steps} == {("", b"")}
    assert all(step.completion_tokens for step in steps)


async def test_stop_from_another_connection_ends_the_calls(
    api: Api, model: FakeModel, critique: str
):
    model.take_time(0.01)
    response = await api.post(PATH, chat(critique, **LONG))
    head = b""
    while b'"step_text"' not in head:
        head += await anext(response.streaming_content)
    run_id = sse_events(head)[0]["id"]
    assert (await api.delete(f"/v1/streams/{run_id}")).status_code in (200, 202, 204)
    rest = sse_events(await body_of(response))
    assert rest[-1] == "[DONE]"
    assert rest[-2]["orchestration"]["stopped_by"] == "cancelled"
    await eventually(lambda: OrchestrationRun.objects.get().state == "cancelled")
    (record,) = await recorded(1)
    assert record.outcome == "cancelled"


async def test_client_that_leaves_ends_the_calls(api: Api, model: FakeModel, critique: str):
    model.take_time(0.01)
    async with http_request(api, chat(critique, **LONG)) as client:
        await _until(client, '"step_text"')
        await client.send_input({"type": "http.disconnect"})
    await eventually(lambda: OrchestrationRun.objects.get().state == "cancelled")
    (record,) = await recorded(1)
    assert record.outcome == "cancelled"


async def test_members_that_call_the_same_tool_agree_and_the_call_is_read(
    api: Api, model: FakeModel
):
    name = await in_database(preset, model, "ensemble", "generator", "generator")
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    rows = ModelVersion.objects.filter(pk=model.version.pk)
    template = model.version.chat_template + "{% if tools %}<tool_call>{% endif %}"
    await in_database(functools.partial(rows.update, chat_template=template))
    model.say(call)
    tool = {"type": "function", "function": {"name": "get_weather"}}
    content = (await api.post(PATH, chat(name, tools=[tool], temperature=0))).json()
    (made,) = content["choices"][0]["message"]["tool_calls"]
    assert made["function"] == {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    assert content["choices"][0]["finish_reason"] == "tool_calls"
    assert content["orchestration"]["agreement"]["groups"] == [[0, 1]]


async def test_run_over_a_websocket_tells_its_phases(api: Api, model: FakeModel, critique: str):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT, "Rain falls.")
    async with socket_of(api) as socket:
        await socket.send("stream_chat", model=critique, prompt="What is rain?")
        events = await socket.until("stream_end")
    starts = [data["step"] for name, data in events if data.get("event") == "step_start"]
    assert starts == ["g", "c1", "v1"]
    assert "".join(data["token"] for name, data in events if name == "stream_token") == (
        "Rain falls."
    )
    assert events[-1][1]["orchestration"]["answer_from"] == "v1"


async def test_run_that_takes_too_long_ends_with_the_newest_answer(
    api: Api, model: FakeModel, critique: str, configure: Callable[..., None], service: Runtime
):
    model.backend.next_token = Dialogue("Rain falls up.", VERDICT * 50)
    model.take_time(0.02)
    soon = dataclasses.replace(service.settings.orchestration, timeout_seconds=2.0)
    configure(orchestration=soon)
    content = (await api.post(PATH, chat(critique))).json()
    assert content["choices"][0]["message"]["content"] == "Rain falls up."
    assert content["choices"][0]["finish_reason"] == "partial"
    orchestration = content["orchestration"]
    assert (orchestration["partial"], orchestration["stopped_by"]) == (True, "timeout")


async def test_preset_is_listed_as_a_model_while_the_files_of_its_members_are_here(
    api: Api, model: FakeModel, critique: str
):
    async def listed() -> list[dict[str, Any]]:
        return [
            one for one in (await api.get("/v1/models")).json()["data"] if one["id"] == critique
        ]

    (found,) = await listed()
    assert (found["owned_by"], found["orchestration_mode"]) == ("brigade-preset", "critique")
    rows = ModelVersion.objects.filter(pk=model.version.pk)
    await in_database(functools.partial(rows.update, file_state="absent"))
    assert await listed() == []


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"n": 2}, 400, "n"),
    ({"orchestration_mode": "debate"}, 400, "orchestration_mode"),
    ({"max_tokens": 100_000}, 400, "messages"),
    ({"messages": [{"role": "user", "content": "rain " * 3000}]}, 400, "messages"),
    ({"orchestration": {"events": "all"}}, 400, "orchestration.events"),
]


@pytest.mark.parametrize(("fields", "status", "param"), BAD)
async def test_request_that_no_member_can_take_is_refused_before_any_call(
    api: Api, model: FakeModel, critique: str, fields: dict[str, Any], status: int, param: str
):
    response = await api.post(PATH, chat(critique) | fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert not await in_database(OrchestrationRun.objects.exists)


async def test_run_of_too_many_calls_is_refused(
    api: Api, model: FakeModel, configure: Callable[..., None]
):
    name = await in_database(preset, model, "debate", *["debater"] * 5, settings={"max_rounds": 10})
    response = await api.post(PATH, chat(name))
    assert response.status_code == 400
    assert "51 calls; at most 32" in response.json()["error"]["message"]


async def _until(client: ApplicationCommunicator, part: str) -> str:
    """Read events until one has ``part``; return the id of the run."""
    text = b""
    while part.encode() not in text:
        text += (await client.receive_output(timeout=10)).get("body", b"")
    return str(sse_events(text)[0]["id"])
