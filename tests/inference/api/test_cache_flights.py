"""Requests that are answered by the generation of another request."""

import asyncio
import json
from typing import Any

import pytest
import redis

from inference.messages import Delta, Finished, Started, Usage
from inference.queue.claims import KEPT, NOTHING, Numbered
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion
from tests.inference.api.caches import PATH, asked, chat, differences
from tests.inference.api.test_delivery import http_request
from tests.stack import (
    Api,
    FakeModel,
    ScriptedHost,
    body_of,
    eventually,
    record_of,
    recorded,
    sse_events,
)

pytestmark = pytest.mark.usefixtures("empty_cache")


async def test_hundred_requests_at_once_share_one_generation(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser von oben")
    cached_model.take_time(0.05)
    responses = await asyncio.gather(*(api.post(PATH, chat(cached_model)) for _ in range(100)))
    assert {response.status_code for response in responses} == {200}
    statuses = sorted(response["x-brigade-cache"] for response in responses)
    assert statuses.count("miss") == 1
    assert set(statuses) <= {"miss", "flight", "exact"}
    texts = {response.json()["choices"][0]["message"]["content"] for response in responses}
    assert texts == {"Wasser von oben"}
    assert len({response.json()["id"] for response in responses}) == 100
    records = await recorded(100)
    assert sum(record.computed_completion_tokens > 0 for record in records) == 1
    assert await differences(redis_client) == {}


async def test_followers_finish_when_the_first_leaves(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.take_time(0.02)
    body = chat(cached_model, stream=True, max_tokens=100)
    async with http_request(api, body) as first:
        assert (await first.receive_output(timeout=10))["status"] == 200
        await first.receive_output(timeout=10)
        followers = [asyncio.create_task(api.post(PATH, body)) for _ in range(3)]
        started = [await follower for follower in followers]
        assert {one["x-brigade-cache"] for one in started} == {"flight"}
        await first.send_input({"type": "http.disconnect"})
    texts = [sse_events(await body_of(one)) for one in started]
    assert {len(events) for events in texts} == {len(texts[0])}
    assert texts[0][-2]["choices"][0]["finish_reason"] == "length"
    records = {record.outcome: record for record in await recorded(4)}
    assert records["cancelled"].computed_completion_tokens == 0
    assert 0 < records["cancelled"].completion_tokens < 100
    assert records["finished"].completion_tokens == 100
    assert await differences(redis_client) == {}


async def test_generation_is_stopped_when_all_readers_have_left(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.take_time(0.02)
    body = chat(cached_model, stream=True, max_tokens=400)
    async with http_request(api, body) as first, http_request(api, body) as second:
        for one in (first, second):
            assert (await one.receive_output(timeout=10))["status"] == 200
        await first.send_input({"type": "http.disconnect"})
        await second.send_input({"type": "http.disconnect"})
    records = await recorded(2)
    assert [record.outcome for record in records] == ["cancelled"] * 2
    await eventually(lambda: cached_model.engine.running_sequences == 0)
    assert not redis_client.exists("brigade:cached")
    assert await differences(redis_client) == {}


async def test_reader_that_is_stopped_by_another_connection_ends_and_others_go_on(
    api: Api, cached_model: FakeModel
):
    cached_model.take_time(0.02)
    body = chat(cached_model, stream=True, max_tokens=200)
    one, two = [await api.post(PATH, body) for _ in range(2)]
    first = one.streaming_content.__aiter__()
    run_id = json.loads((await anext(first)).split(b"data: ")[1])["id"]
    assert (await api.delete(f"/v1/streams/{run_id}")).json()["stopped"] is True
    rest = sse_events(b"".join([chunk async for chunk in first]))
    assert rest[-1] == "[DONE]"
    assert len(rest) < 190
    others = sse_events(await body_of(two))
    assert others[-2]["choices"][0]["finish_reason"] == "length"
    record = await record_of(run_id)
    assert record.outcome == "cancelled"


async def test_cancelled_answer_is_not_kept(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.take_time(0.02)
    async with http_request(api, chat(cached_model, stream=True, max_tokens=400)) as client:
        assert (await client.receive_output(timeout=10))["status"] == 200
        await client.send_input({"type": "http.disconnect"})
    await recorded()
    assert not redis_client.exists("brigade:cached")


async def test_nothing_is_left_of_a_shared_generation(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    cached_model.take_time(0.02)
    await asyncio.gather(*(api.post(PATH, chat(cached_model)) for _ in range(3)))
    assert list(redis_client.scan_iter("brigade:flight:*")) == []
    assert list(redis_client.scan_iter("brigade:readers:*")) == []


async def test_urgent_request_does_not_wait_for_a_generation_of_low_priority(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    body = {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]}
    low = asyncio.create_task(api.post(PATH, body | {"priority": 1}))
    first = await asyncio.to_thread(scripted_host.claim)
    high = asyncio.create_task(api.post(PATH, body | {"priority": 3}))
    second = await asyncio.to_thread(scripted_host.claim)
    assert first.id != second.id
    for item in (first, second):
        scripted_host.publish(item, [Started(3), Finished("stop", Usage(3, 0))])
    assert {(await one)["x-brigade-cache"] for one in (low, high)} == {"miss"}


async def test_older_generation_does_not_replace_a_refreshed_answer(
    api: Api, service: Runtime, version: ModelVersion, scripted_host: ScriptedHost
):
    body = {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]}

    def publish(item: Any, text: str) -> None:
        frames = (Started(3), Delta(text, [1]), Finished("stop", Usage(3, 1)))
        marks = (NOTHING, NOTHING, KEPT)
        numbered = [
            Numbered(item.id, number, frame, mark)
            for number, (frame, mark) in enumerate(zip(frames, marks, strict=True), 1)
        ]
        scripted_host.claims.publish(numbered, 600)

    old = asyncio.create_task(api.post(PATH, body))
    first = await asyncio.to_thread(scripted_host.claim)
    new = asyncio.create_task(api.post(PATH, body | {"cache": {"mode": "refresh"}}))
    second = await asyncio.to_thread(scripted_host.claim)
    publish(second, "new")
    publish(first, "old")
    await asyncio.gather(old, new)
    assert await asked(api, body) == ("exact", "new")
