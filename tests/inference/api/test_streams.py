"""``/v1/streams/{id}``: follow a run again, and stop it."""

import asyncio
from typing import Any

import pytest

from inference.messages import Delta, Finished, Started, Usage, run_id_of
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion
from tests.stack import (
    Api,
    FakeModel,
    ScriptedHost,
    body_of,
    eventually,
    record_of,
    sse_events,
)


def chat(slug: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": slug, "messages": messages, "stream": True, **fields}


async def streamed(api: Api, model: FakeModel, **fields: Any) -> tuple[str, bytes]:
    """(run id, body) of a finished stream."""
    body = await body_of(await api.post("/v1/chat/completions", chat(model.slug, **fields)))
    return sse_events(body)[0]["id"], body


def event_ids(body: bytes) -> list[str]:
    return [line[4:] for line in body.decode().split("\n") if line.startswith("id: ")]


def text_of(body: bytes, choice: int = 0) -> str:
    return "".join(
        chunk["choices"][0]["delta"].get("content", "")
        for chunk in sse_events(body)
        if chunk != "[DONE]" and chunk["choices"] and chunk["choices"][0]["index"] == choice
    )


async def test_stream_from_the_beginning_repeats_the_events(api: Api, model: FakeModel):
    model.say("hello again")
    run_id, first = await streamed(api, model)
    response = await api.get(f"/v1/streams/{run_id}", Accept="text/event-stream")
    assert response.status_code == 200
    second = await body_of(response)
    assert text_of(second) == "hello again"
    assert sse_events(second)[-1] == "[DONE]"
    assert {chunk["id"] for chunk in sse_events(first + second) if chunk != "[DONE]"} == {run_id}


@pytest.mark.parametrize("way", ["header", "query"])
async def test_stream_resumes_without_gap_or_repetition(api: Api, model: FakeModel, way: str):
    model.take_time(0.002)
    run_id, whole = await streamed(api, model, max_tokens=30)
    ids = event_ids(whole)
    blocks = whole.split(b"\n\n")
    for cut in {1, len(ids) // 2, len(ids) - 2}:
        after = ids[cut]
        if way == "header":
            response = await api.get(f"/v1/streams/{run_id}", **{"Last-Event-ID": after})
        else:
            response = await api.get(f"/v1/streams/{run_id}?after={after}")
        rest = await body_of(response)
        assert text_of(b"\n\n".join(blocks[: cut + 1])) + text_of(rest) == text_of(whole)
        roles = [chunk for chunk in sse_events(rest)[:-1] if chunk["choices"]]
        assert all("role" not in chunk["choices"][0]["delta"] for chunk in roles)


async def test_stream_of_n_resumes_every_choice(api: Api, model: FakeModel):
    model.take_time(0.002)
    run_id, whole = await streamed(api, model, n=2, max_tokens=20, temperature=2, seed=3)
    cut = len(event_ids(whole)) // 2
    after = event_ids(whole)[cut]
    rest = await body_of(await api.get(f"/v1/streams/{run_id}", **{"Last-Event-ID": after}))
    seen = b"\n\n".join(whole.split(b"\n\n")[: cut + 1])
    for choice in (0, 1):
        assert text_of(seen, choice) + text_of(rest, choice) == text_of(whole, choice)


async def test_stream_read_to_its_end_is_just_done(api: Api, model: FakeModel):
    # EventSource reconnects by itself after every end.
    model.say("x")
    run_id, whole = await streamed(api, model)
    after = event_ids(whole)[-1]
    response = await api.get(f"/v1/streams/{run_id}", **{"Last-Event-ID": after})
    assert sse_events(await asyncio.wait_for(body_of(response), 3)) == ["[DONE]"]


async def test_stream_can_be_followed_while_it_runs(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    request = asyncio.create_task(api.post("/v1/chat/completions", chat(version.model.slug)))
    item = await scripted_host.answer(Started(3), Delta("first ", [1]))
    run_id = run_id_of(item.id)
    original = await request
    follower = await api.get(f"/v1/streams/{run_id}")
    scripted_host.publish(item, [Delta("second", [2]), Finished("stop", Usage(3, 2))], after=2)
    assert text_of(await body_of(follower)) == "first second"
    assert text_of(await body_of(original)) == "first second"


async def test_leaving_a_followed_stream_does_not_stop_it(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    request = asyncio.create_task(api.post("/v1/chat/completions", chat(version.model.slug)))
    item = await scripted_host.answer(Started(3), Delta("first ", [1]))
    original = await request
    follower = await api.get(f"/v1/streams/{run_id_of(item.id)}")
    content = aiter(follower.streaming_content)
    assert b"assistant" in await anext(content)
    await content.aclose()
    assert scripted_host.claims.controls() == []
    scripted_host.publish(item, [Finished("stop", Usage(3, 1))], after=2)
    assert sse_events(await body_of(original))[-1] == "[DONE]"


async def test_delete_by_the_owner_stops_the_run_and_usage_is_true(api: Api, model: FakeModel):
    model.take_time(0.01)
    response = await api.post(
        "/v1/chat/completions", chat(model.slug, stream_options={"include_usage": True})
    )
    content = aiter(response.streaming_content)
    body = b""
    while body.count(b"data: ") < 4:
        body += await anext(content)
    run_id = sse_events(body)[0]["id"]
    stopped = await api.delete(f"/v1/streams/{run_id}")
    assert stopped.json() == {"id": run_id, "object": "stream", "stopped": True}
    body += b"".join([chunk async for chunk in content])
    *chunks, usage, done = sse_events(body)
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == len(text_of(body))
    record = await record_of(run_id)
    assert (record.outcome, record.completion_tokens) == ("cancelled", len(text_of(body)))
    await eventually(lambda: model.engine.is_idle)


async def test_delete_of_a_finished_run_stops_nothing(api: Api, model: FakeModel):
    model.say("x")
    run_id, _ = await streamed(api, model)
    response = await api.delete(f"/v1/streams/{run_id}")
    assert (response.status_code, response.json()["stopped"]) == (200, False)


async def test_stream_of_somebody_else_is_404_and_goes_on(
    api: Api,
    stranger: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
):
    request = asyncio.create_task(api.post("/v1/chat/completions", chat(version.model.slug)))
    item = await scripted_host.answer(Started(3), Delta("secret", [1]))
    path = f"/v1/streams/{run_id_of(item.id)}"
    original = await request
    for response in (await stranger.get(path), await stranger.delete(path)):
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "stream_not_found"
    assert scripted_host.claims.controls() == []
    scripted_host.publish(item, [Finished("stop", Usage(3, 1))], after=2)
    assert sse_events(await body_of(original))[-1] == "[DONE]"


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "1,", "99999999999999999999", "1,2,3"])
async def test_stream_position_that_is_none_is_400(api: Api, model: FakeModel, after: str):
    model.say("x")
    run_id, _ = await streamed(api, model)
    response = await api.get(f"/v1/streams/{run_id}?after={after}")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "after"


@pytest.mark.parametrize("run_id", ["chatcmpl-none", "a%00b", "é"])
async def test_unknown_stream_is_404(api: Api, service: Runtime, run_id: str):
    assert (await api.get(f"/v1/streams/{run_id}")).status_code == 404
