"""Requests that are answered by the cache, or by the generation of another request."""

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from caching.answers import forget_outdated
from inference.database import in_database
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import Delta, Finished, Started, Usage, encode
from inference.orders import resolution
from inference.queue import keys
from inference.queue.claims import KEPT, NOTHING, Numbered
from inference.runs.runtime import Runtime
from metrics.ledger import store
from metrics.ledger.check import check
from models_registry.catalogue.rollout import set_default
from models_registry.models import ModelVersion, Preset
from tests.inference.api.test_delivery import http_request
from tests.inference.api.test_ledger import add_price
from tests.stack import (
    KV_CELLS,
    Api,
    ByteBackend,
    FakeModel,
    ScriptedHost,
    body_of,
    eventually,
    host_of,
    record_of,
    recorded,
    sse_events,
)

PATH = "/v1/chat/completions"
UNLIKE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "What is rain?"}]},
    {"seed": 1},
    {"top_k": 1},
    {"stop": ["."]},
    {"max_tokens": 31},
    {"logprobs": True},
    {"logit_bias": {"5": -100}},
    {"regex": "(yes|no).*"},
    {"n": 2},
    {"cache": {"mode": "refresh"}},
]
ALIKE: list[dict[str, Any]] = [
    {"priority": 1},
    {"max_tokens": None, "max_completion_tokens": 32},
    {"temperature": 0},
    {"keep_alive": 60},
    {"cache": {"scope": "end_user", "ttl": 3600}},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"mode": "usee"}, "cache.mode"),
    ({"ttl": -1}, "cache.ttl"),
    ({"ttl": 10**9}, "cache.ttl"),
    ({"min_similarity": 0}, "cache.min_similarity"),
    ({"min_similarity": 0.5}, "cache.min_similarity"),
    ({"scope": "all"}, "cache.scope"),
    ({"scope": "world"}, "cache.scope"),
    ({"pace": 0}, "cache.pace"),
    ({"colour": 1}, "cache.colour"),
    ({"match": "semantic"}, "cache.match"),
]
PASSED_BY: list[tuple[dict[str, Any], str]] = [
    ({"mode": "no-store"}, "no-store"),
    ({"user_specific": True}, "user-specific"),
    ({"time_sensitive": True}, "time-sensitive"),
]
ELSEWHERE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "what is the colour of rain"}]},
    {"seed": 1},
    {"max_tokens": 31},
    {"tools": [{"type": "function", "function": {"name": "weather"}}]},
    {"logprobs": True},
]


@pytest.fixture(autouse=True)
def _empty_cache(database: None, redis_client: "redis.Redis") -> None:
    for pattern in (
        *("brigade:cache*", "brigade:retyped:*", "brigade:ledger:*"),
        *("brigade:flight:*", "brigade:readers:*"),
    ):
        for key in redis_client.scan_iter(pattern):
            redis_client.delete(key)
    redis_client.delete(store.OPEN, store.UNWRITTEN, store.LEFT)


def chat(model: FakeModel, text: str = "What is rain?", **fields: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "Answer in German."},
        {"role": "user", "content": text},
    ]
    return {"model": model.slug, "messages": messages, "max_tokens": 32, **fields}


async def asked(api: Api, body: dict[str, Any], **headers: str) -> tuple[str, str]:
    """The status of the cache, and the text."""
    response = await api.post(PATH, body, **headers)
    assert response.status_code == 200, response.content
    text = response.json()["choices"][0]["message"]["content"]
    return response["x-brigade-cache"], text


async def test_cache_answers_the_same_request_again(api: Api, cached_model: FakeModel):
    cached_model.say("Wasser von oben")
    first = await api.post(PATH, chat(cached_model))
    assert first["x-brigade-cache"] == "miss"
    assert "cache" not in first.json()
    cached_model.say("something else")
    again = await api.post(PATH, chat(cached_model))
    assert again["x-brigade-cache"] == "exact"
    assert again.json()["cache"] == "exact"
    assert len(again["x-brigade-cache-key"]) == 16
    assert int(again["x-brigade-cache-age"]) < 10
    one, two = first.json(), again.json()
    assert one["id"] != two["id"]
    assert one["choices"] == two["choices"]
    usage = one["usage"] | {
        "prompt_tokens_details": {"cached_tokens": one["usage"]["prompt_tokens"]}
    }
    assert two["usage"] == usage


async def test_cache_does_not_answer_another_request(api: Api, cached_model: FakeModel):
    cached_model.say("yes it is")
    assert (await asked(api, chat(cached_model)))[0] == "miss"
    statuses = {str(one): (await asked(api, chat(cached_model) | one))[0] for one in UNLIKE}
    assert statuses == dict.fromkeys(map(str, UNLIKE), "miss")


async def test_cache_answers_where_nothing_that_shapes_the_answer_differs(
    api: Api, cached_model: FakeModel
):
    cached_model.say("Wasser")
    assert (await asked(api, chat(cached_model)))[0] == "miss"
    statuses = {str(one): (await asked(api, chat(cached_model) | one))[0] for one in ALIKE}
    assert statuses == dict.fromkeys(map(str, ALIKE), "exact")


async def test_cache_is_used_for_sampled_requests_only_if_they_ask(
    api: Api, cached_model: FakeModel
):
    cached_model.say("Wasser")
    # Low enough that the fake never strays from its script.
    body = chat(cached_model, temperature=0.05)
    assert [(await asked(api, body))[0] for _ in range(2)] == ["bypass;sampled"] * 2
    asking = body | {"cache": {"mode": "use"}}
    assert [(await asked(api, asking))[0] for _ in range(2)] == ["miss", "exact"]
    header = {"x-brigade-cache": "mode=use, ttl=60"}
    assert (await asked(api, body, **header))[0] == "exact"


async def test_cache_is_passed_by_and_says_why(api: Api, cached_model: FakeModel):
    cached_model.say("Wasser")
    for options, why in PASSED_BY * 2:
        status, _ = await asked(api, chat(cached_model, cache=options))
        assert status == f"bypass;{why}"
    assert (await asked(api, chat(cached_model)))[0] == "miss"


async def test_refresh_replaces_the_answer(api: Api, cached_model: FakeModel):
    cached_model.say("old")
    await asked(api, chat(cached_model))
    cached_model.say("new")
    assert await asked(api, chat(cached_model), **{"x-brigade-cache": "refresh"}) == ("miss", "new")
    assert await asked(api, chat(cached_model)) == ("exact", "new")


async def test_answers_are_not_shared_with_others(api: Api, stranger: Api, cached_model: FakeModel):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model, user="alice"))
    assert (await asked(api, chat(cached_model, user="bob")))[0] == "miss"
    assert (await asked(stranger, chat(cached_model, user="alice")))[0] == "miss"
    assert (await asked(api, chat(cached_model, user="alice")))[0] == "exact"


async def test_bad_cache_options_are_named(api: Api, cached_model: FakeModel):
    for options, param in BAD:
        response = await api.post(PATH, chat(cached_model, cache=options))
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


async def test_hit_is_streamed_frame_by_frame_and_can_be_resumed(api: Api, cached_model: FakeModel):
    cached_model.say("Wasser von oben")
    body = chat(cached_model, stream=True)
    first = sse_events(await body_of(await api.post(PATH, body)))
    response = await api.post(PATH, body)
    assert response["x-brigade-cache"] == "exact"
    again = sse_events(await body_of(response))

    def said(events: list[Any]) -> list[Any]:
        return [event["choices"] for event in events if event != "[DONE]"]

    assert said(again) == said(first)
    run_id = again[0]["id"]
    assert run_id != first[0]["id"]
    resumed = await api.get(f"/v1/streams/{run_id}", **{"Last-Event-ID": "1"})
    rest = sse_events(await body_of(resumed))
    assert said(rest) == said(again)[-len(said(rest)) :]
    assert 0 < len(rest) < len(again)


async def test_hit_is_given_at_the_pace_that_is_asked_for(api: Api, cached_model: FakeModel):
    cached_model.say("0123456789")
    await asked(api, chat(cached_model))
    began = asyncio.get_running_loop().time()
    assert await asked(api, chat(cached_model, cache={"pace": 100})) == ("exact", "0123456789")
    assert asyncio.get_running_loop().time() - began > 0.09


async def test_hit_costs_nothing_and_computes_nothing(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    await asked(api, chat(cached_model))
    miss, hit = await recorded(2)
    assert (miss.tier, hit.tier) == ("", "exact")
    assert (hit.computed_prompt_tokens, hit.computed_completion_tokens, hit.device_us) == (0, 0, 0)
    assert (hit.prompt_tokens, hit.completion_tokens) == (
        miss.prompt_tokens,
        miss.completion_tokens,
    )
    assert hit.cached_tokens == hit.prompt_tokens
    assert await _differences(redis_client) == {}


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
    assert await _differences(redis_client) == {}


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
    assert await _differences(redis_client) == {}


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
    assert await _differences(redis_client) == {}


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


@pytest.mark.parametrize("garbage", ["string", "frames", "no end", "index"])
async def test_garbage_in_the_cache_is_a_miss(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis", garbage: str
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    (key,) = redis_client.hkeys("brigade:cached")
    name = keys.cached(key.decode())
    redis_client.delete(name)
    if garbage == "string":
        redis_client.set(name, b"garbage")
    elif garbage == "index":
        redis_client.hset("brigade:cached", key, b"garbage")
    else:
        frame = b"garbage" if garbage == "frames" else encode(Started(3))
        redis_client.xadd(name, {"f": frame}, id="1-0")
    assert await asked(api, chat(cached_model)) == ("miss", "Wasser")
    assert await asked(api, chat(cached_model)) == ("exact", "Wasser")


async def test_cache_answers_while_the_model_is_not_in_memory(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    ready = keys.ready(cached_model.key)
    redis_client.zrem(ready, cached_model.launch_id)
    used: Any = redis_client.hget(keys.USED, cached_model.key)
    # The host's next heartbeat is half a second away.
    assert (await asked(api, chat(cached_model)))[0] == "exact"
    assert redis_client.hget(keys.USED, cached_model.key) == used


async def test_oldest_answers_go_when_the_cache_is_full(
    api: Api, cached_model: FakeModel, configure: Callable[..., None], redis_client: "redis.Redis"
):
    configure(cache_bytes=8_000)
    cached_model.say("Wasser")
    for number in range(12):
        await asked(api, chat(cached_model, f"question {number}"))
    held = int(redis_client.get("brigade:cache_bytes") or 0)
    assert 0 < held <= 8_000
    assert (await asked(api, chat(cached_model, "question 0")))[0] == "miss"
    assert (await asked(api, chat(cached_model, "question 11")))[0] == "exact"
    known = redis_client.hlen("brigade:cached")
    assert known == redis_client.zcard("brigade:cache_use")
    assert known == len(list(redis_client.scan_iter("brigade:cache:*")))


async def test_cache_is_off_without_bytes(
    api: Api, cached_model: FakeModel, configure: Callable[..., None]
):
    configure(cache_bytes=0)
    cached_model.say("Wasser")
    assert [(await asked(api, chat(cached_model)))[0] for _ in range(2)] == ["bypass;off"] * 2


async def test_retyped_question_is_answered_if_the_request_asks_for_it(
    api: Api, cached_model: FakeModel
):
    cached_model.say("Wasser")
    options = {"cache": {"match": "retyped"}}
    question = chat(cached_model, "What is the colour of rain?", max_tokens=None)
    assert (await asked(api, question | options))[0] == "miss"
    other = chat(cached_model, "hi, whats the color of rain", max_tokens=None)
    assert (await asked(api, other | options)) == ("retyped", "Wasser")
    assert (await asked(api, other))[0] == "miss"
    unlike = chat(cached_model, "What is the colour of snow?", max_tokens=None)
    assert (await asked(api, unlike | options))[0] == "miss"


async def test_retyped_question_in_another_place_is_another_question(
    api: Api, cached_model: FakeModel
):
    cached_model.say("Wasser")
    options = {"cache": {"match": "retyped"}}
    await asked(api, chat(cached_model, "What is the colour of rain?") | options)
    retyped = chat(cached_model, "what is the colour of rain") | options
    statuses = [(await asked(api, retyped | change))[0] for change in ELSEWHERE]
    assert statuses == ["miss"] * 3 + ["miss;exact-only"] * 2


async def test_answer_that_was_cut_counts_for_the_same_request_only(
    api: Api, cached_model: FakeModel
):
    cached_model.say("Wasser von oben")
    options = {"cache": {"match": "retyped"}, "max_tokens": 3}
    body = chat(cached_model, "What is rain made of?") | options
    assert (await asked(api, body)) == ("miss", "Was")
    assert (await asked(api, body)) == ("exact", "Was")
    assert (await asked(api, chat(cached_model, "what is rain made of") | options))[0] == "miss"


async def _differences(client: "redis.Redis") -> dict[str, int]:
    """The differences that the proof of the ledger finds."""
    await eventually(lambda: not client.hlen(store.OPEN))
    findings = await in_database(check, client)
    assert any("computed tokens" in finding.name for finding in findings)
    return {one.name: one.difference for one in findings if one.difference}


async def test_client_that_leaves_a_paced_answer_is_settled_at_once(
    api: Api, cached_model: FakeModel
):
    cached_model.say("0123456789")
    await asked(api, chat(cached_model))
    body = chat(cached_model, stream=True, cache={"pace": 0.1})
    async with http_request(api, body) as client:
        assert (await client.receive_output(timeout=10))["status"] == 200
        await client.send_input({"type": "http.disconnect"})
    _, hit = await recorded(2)
    assert hit.tier == "exact"


async def test_answers_fit_the_version_they_name_while_the_default_changes(
    api: Api,
    cached_model: FakeModel,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)

    def add_version() -> FakeModel:
        version = ModelVersion.objects.get(pk=cached_model.version.pk)
        version.pk, version.label, version.is_default = None, "v2", False
        version._state.adding = True
        version.save()
        backend = ByteBackend(kv_cells=KV_CELLS)
        engine = Engine(backend, EngineConfig(kv_cells=KV_CELLS, max_sequences=8))
        return FakeModel(version, backend, engine, weights=cached_model.weights)

    newer = await in_database(add_version)
    cached_model.say("old")
    newer.say("new")
    said = {cached_model.key: "old", newer.key: "new"}
    seen: list[tuple[str, str]] = []
    enough: list[int] = []
    is_over = False

    async def ask() -> None:
        while not is_over:
            response = await api.post(PATH, chat(cached_model))
            text = response.json()["choices"][0]["message"]["content"]
            assert text == said[response["x-brigade-model-version"]]
            seen.append((text, response["x-brigade-cache"]))

    with host_of(newer, redis_client):
        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(15):
            await in_database(set_default, (newer, cached_model)[number % 2].version)
            enough.append(len(seen) + 10)
            await eventually(lambda: len(seen) >= enough[-1])
        is_over = True
        await asyncio.gather(*asking)
    assert {("old", "exact"), ("new", "exact")} <= set(seen)


async def test_hit_costs_the_same_if_the_operator_wants_it(
    api: Api, cached_model: FakeModel, configure: Callable[..., None]
):
    await in_database(add_price, cached_model.version)
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    await asked(api, chat(cached_model))
    configure(cache_billing="full")
    await asked(api, chat(cached_model))
    miss, free, full = await recorded(3)
    assert (free.tier, free.cost_nano) == ("exact", 0)
    assert full.cost_nano == miss.cost_nano > 0


async def test_answer_older_than_the_ttl_is_generated_again(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    ((key, value),) = redis_client.hgetall("brigade:cached").items()
    about = json.loads(value)
    about["made_at"] -= 5
    redis_client.hset("brigade:cached", key, json.dumps(about))
    assert (await asked(api, chat(cached_model, cache={"ttl": 6})))[0] == "exact"
    assert (await asked(api, chat(cached_model, cache={"ttl": 4})))[0] == "miss"


async def test_edit_of_the_template_is_another_request_until_it_is_undone(
    api: Api, cached_model: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)
    rows = ModelVersion.objects.filter(pk=cached_model.version.pk)
    template = cached_model.version.chat_template
    cached_model.say("Wasser")
    statuses = []
    for text in (template, template + " ", template):
        await in_database(functools.partial(rows.update, chat_template=text))
        statuses.append((await asked(api, chat(cached_model)))[0])
    for sampling in ({"temperature": 0, "top_k": 3}, {"temperature": 0}):
        await in_database(functools.partial(rows.update, default_sampling=sampling))
        statuses.append((await asked(api, chat(cached_model)))[0])
    assert statuses == ["miss", "miss", "exact", "miss", "exact"]


async def test_preset_sets_scope_and_match(api: Api, stranger: Api, cached_model: FakeModel):
    def add_preset() -> None:
        preset = Preset.objects.create(name="open", cache={"scope": "all", "match": "retyped"})
        preset.members.create(model=cached_model.version.model)

    await in_database(add_preset)
    cached_model.say("Wasser")
    body = chat(cached_model, "What is rain made of?") | {"model": "auto", "preset": "open"}
    assert (await asked(api, body))[0] == "miss"
    messages = [body["messages"][0], {"role": "user", "content": "what is rain made of"}]
    assert (await asked(stranger, body | {"messages": messages}))[0] == "retyped"
    narrow = body | {"cache": {"scope": "user"}}
    assert (await asked(stranger, narrow))[0] == "miss"


async def test_outdated_answers_are_deleted(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model, cache={"ttl": 3600}))
    assert forget_outdated(redis_client, ()) == 0
    assert forget_outdated(redis_client, {"another@v1"}) == 0
    assert forget_outdated(redis_client, {cached_model.key}) == 1
    assert (await asked(api, chat(cached_model)))[0] == "miss"
    ((key, value),) = redis_client.hgetall("brigade:cached").items()
    redis_client.hset("brigade:cached", key, json.dumps(json.loads(value) | {"expires_at": 1}))
    assert forget_outdated(redis_client, ()) == 1
    assert int(redis_client.get("brigade:cache_bytes") or 0) == 0


async def test_calls_of_tools_are_replayed_with_new_ids(api: Api, cached_model: FakeModel):
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    calls = [
        f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
        for city in ("Bonn", "Paris")
    ]
    cached_model.say("\n".join(calls))
    body = chat(cached_model, tools=[tool], max_tokens=200)
    answers = [await api.post(PATH, body) for _ in range(2)]
    assert [one["x-brigade-cache"] for one in answers] == ["miss", "exact"]
    one, two = (answer.json()["choices"][0]["message"]["tool_calls"] for answer in answers)
    assert [call["function"] for call in one] == [call["function"] for call in two]
    assert len({call["id"] for call in (*one, *two)}) == 4


async def test_header_and_field_at_once_are_refused(api: Api, cached_model: FakeModel):
    body = chat(cached_model, cache={"ttl": 60})
    response = await api.post(PATH, body, **{"x-brigade-cache": "no-store"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "cache"


async def test_cache_without_its_index_makes_room(
    api: Api, cached_model: FakeModel, configure: Callable[..., None], redis_client: "redis.Redis"
):
    configure(cache_bytes=4_000)
    cached_model.say("Wasser")
    await asked(api, chat(cached_model, "question 0"))
    redis_client.delete("brigade:cached")
    for number in range(1, 6):
        await asked(api, chat(cached_model, f"question {number}"))
    assert (await asked(api, chat(cached_model, "question 5")))[0] == "exact"
    assert redis_client.zcard("brigade:cache_use") == redis_client.hlen("brigade:cached") > 0


async def test_only_streamed_hits_are_kept_to_be_followed_again(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    whole = (await api.post(PATH, chat(cached_model))).json()["id"]
    events = sse_events(await body_of(await api.post(PATH, chat(cached_model, stream=True))))
    assert not redis_client.exists(keys.stream(f"{whole}.0"))
    assert redis_client.exists(keys.stream(f"{events[0]['id']}.0"))


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
