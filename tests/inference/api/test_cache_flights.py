"""Requests that are answered by the generation of another request."""

import asyncio
import json
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from inference.database import in_database
from inference.messages import Delta, Finished, Started, Usage
from inference.queue.claims import KEPT, NOTHING, Numbered
from inference.runs.runtime import Runtime
from metrics.ledger import store
from metrics.ledger.partitions import ensure_partitions
from models_registry.models import ModelVersion
from tests.inference.api.caches import PATH, asked, chat, counted_tokens, differences
from tests.inference.api.test_delivery import http_request
from tests.inference.caches import empty_caches
from tests.inference.test_consumer_chat import socket_of, text_of
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


def said_in(events: list[Any]) -> str:
    """The text of a streamed answer."""
    choices = [one["choices"][0] for one in events if one != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_late_followers_by_websocket_and_stream_read_the_whole_answer(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
):
    body = {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]}
    first = asyncio.create_task(api.post(PATH, body | {"stream": True}))
    item = await asyncio.to_thread(scripted_host.claim)
    scripted_host.publish(item, [Started(3), Delta("Was", [1]), Delta("ser", [2])])
    async with socket_of(api) as socket:
        second = asyncio.create_task(api.post(PATH, body | {"stream": True}))
        await socket.send("stream_chat", **body)
        ((_, start),) = await socket.until("stream_start")
        assert start["cache"] == "flight"
        await eventually(lambda: redis_client.zcard(f"brigade:readers:{item.id}") == 3)
        end = Finished("stop", Usage(3, 3, computed_prompt_tokens=3, computed_completion_tokens=3))
        scripted_host.publish(item, [Delta(" von oben", [3]), end], after=3)
        by_socket = await socket.until("stream_end")
    responses = [await first, await second]
    assert [one["x-brigade-cache"] for one in responses] == ["miss", "flight"]
    by_stream = [sse_events(await body_of(one)) for one in responses]
    texts = [text_of(by_socket), *map(said_in, by_stream)]
    assert texts == ["Wasser von oben"] * 3
    computed = {one.tier: one.computed_completion_tokens for one in await recorded(3)}
    assert computed == {"": 3, "flight": 0}


async def test_caches_may_be_emptied_while_requests_run(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser von oben")
    before = chat(cached_model, "What was before?")
    assert (await asked(api, before))[0] == "miss"
    go_on = threading.Event()

    def hold() -> None:
        assert go_on.wait(10)

    cached_model.backend.while_decoding = hold
    running = asyncio.create_task(asked(api, chat(cached_model)))
    await eventually(lambda: list(redis_client.scan_iter("brigade:flight:*")))
    empty_caches(redis_client)
    again = [asyncio.create_task(asked(api, body)) for body in (before, chat(cached_model))]
    await eventually(lambda: len(list(redis_client.scan_iter("brigade:flight:*"))) == 2)
    go_on.set()
    answers = [await one for one in (running, *again)]
    assert answers == [("miss", "Wasser von oben")] * 3
    for body in (before, chat(cached_model)):
        assert await asked(api, body) == ("exact", "Wasser von oben")


@pytest.mark.parametrize("leaves", [False, True])
async def test_flight_over_midnight_is_counted_on_the_day_of_its_record(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    scripted_host: ScriptedHost,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
    leaves: bool,
):
    accept, day = service.ledger.accept, timedelta(days=1)
    ages = [day, timedelta()]

    async def accept_earlier(run_id: str, facts: bytes) -> datetime:
        """Let the first request have come on the day before."""
        moment = await accept(run_id, facts)
        earlier = moment - ages.pop(0)
        if earlier != moment:
            await in_database(ensure_partitions, earlier)
            note: Any = redis_client.hget(store.OPEN, run_id)
            _, rest = note.split(b" ", 1)
            stamp = str(int(earlier.timestamp() * 1_000_000)).encode()
            redis_client.hset(store.OPEN, run_id, stamp + b" " + rest)
            redis_client.hincrby(store.day_key(store.day_number(moment)), "accepted", -1)
            counts = {"accepted": 1, "since": stamp}
            redis_client.hset(store.day_key(store.day_number(earlier)), mapping=counts)
        return earlier

    monkeypatch.setattr(service.ledger, "accept", accept_earlier)
    body = {"model": version.model.slug, "messages": [{"role": "user", "content": "Hi"}]}
    async with http_request(api, body | {"stream": True}) as first:
        item = await asyncio.to_thread(scripted_host.claim)
        scripted_host.publish(item, [Started(3), Delta("a", [1])])
        await first.receive_output(timeout=10)
        second = asyncio.create_task(api.post(PATH, body))
        await eventually(lambda: redis_client.zcard(f"brigade:readers:{item.id}") == 2)
        if leaves:
            await first.send_input({"type": "http.disconnect"})
            await recorded(1)
        end = Finished("stop", Usage(3, 2, computed_prompt_tokens=3, computed_completion_tokens=2))
        scripted_host.publish(item, [Delta("b", [2]), end], after=2)
        assert (await second)["x-brigade-cache"] == "flight"
        records = await recorded(2)
    earlier, later = sorted(records, key=lambda one: one.started_at)
    assert later.started_at - earlier.started_at > day
    owner, other = (later, earlier) if leaves else (earlier, later)
    for record, expected in ((owner, (3, 2)), (other, (0, 0))):
        computed = (record.computed_prompt_tokens, record.computed_completion_tokens)
        assert computed == expected
        number = str(store.day_number(record.started_at))
        assert counted_tokens(redis_client, number) == expected
    assert await differences(redis_client) == {}
