"""Requests that the cache answers, and those that it must not answer."""

import asyncio
import functools
import random
from typing import Any

import pytest
import redis

from inference.database import in_database
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import Started, encode
from inference.orders import resolution
from inference.queue import keys
from models_registry.catalogue.rollout import set_default
from models_registry.models import ModelVersion
from tests.inference.api.caches import PATH, asked, chat, counted_tokens, differences
from tests.inference.engine.fake_backend import END_OF_GENERATION
from tests.stack import (
    KV_CELLS,
    Api,
    ByteBackend,
    FakeModel,
    body_of,
    eventually,
    host_of,
    recorded,
    sse_events,
)

pytestmark = pytest.mark.usefixtures("empty_cache")
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
ELSEWHERE: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "what is the colour of rain"}]},
    {"seed": 1},
    {"max_tokens": 31},
    {"tools": [{"type": "function", "function": {"name": "weather"}}]},
    {"logprobs": True},
]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALLS = "\n".join(
    f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}\n</tool_call>'
    for city in ("Bonn", "Paris")
)


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


async def test_answers_are_not_shared_with_others(api: Api, stranger: Api, cached_model: FakeModel):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model, user="alice"))
    assert (await asked(api, chat(cached_model, user="bob")))[0] == "miss"
    assert (await asked(stranger, chat(cached_model, user="alice")))[0] == "miss"
    assert (await asked(api, chat(cached_model, user="alice")))[0] == "exact"


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
    assert await differences(redis_client) == {}


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


async def test_answers_fit_the_version_they_name_while_default_and_canary_change(
    api: Api,
    cached_model: FakeModel,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)

    def add_version(label: str, canary_percent: int = 0) -> FakeModel:
        version = ModelVersion.objects.get(pk=cached_model.version.pk)
        version.pk, version.label, version.is_default = None, label, False
        version.canary_percent = canary_percent
        version._state.adding = True
        version.save()
        backend = ByteBackend(kv_cells=KV_CELLS)
        engine = Engine(backend, EngineConfig(kv_cells=KV_CELLS, max_sequences=8))
        return FakeModel(version, backend, engine, weights=cached_model.weights)

    newer = await in_database(add_version, "v2")
    canary = await in_database(add_version, "v3", canary_percent=20)
    said = {cached_model.key: "old", newer.key: "new", canary.key: "canary"}
    for model in (cached_model, newer, canary):
        model.say(said[model.key])
    seen: list[tuple[str, str]] = []
    enough: list[int] = []
    is_over = False

    async def ask() -> None:
        while not is_over:
            response = await api.post(PATH, chat(cached_model))
            text = response.json()["choices"][0]["message"]["content"]
            assert text == said[response["x-brigade-model-version"]]
            seen.append((text, response["x-brigade-cache"]))

    with host_of(newer, redis_client), host_of(canary, redis_client):
        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(15):
            await in_database(set_default, (newer, cached_model)[number % 2].version)
            enough.append(len(seen) + 10)
            await eventually(lambda: len(seen) >= enough[-1])
        is_over = True
        await asyncio.gather(*asking)
    assert {(text, "exact") for text in said.values()} <= set(seen)
    assert [status for _, status in seen].count("miss") == len(said)


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


async def test_calls_of_tools_are_replayed_with_new_ids(api: Api, cached_model: FakeModel):
    cached_model.say(CALLS)
    body = chat(cached_model, tools=[WEATHER], max_tokens=200)
    answers = [await api.post(PATH, body) for _ in range(2)]
    assert [one["x-brigade-cache"] for one in answers] == ["miss", "exact"]
    one, two = (answer.json()["choices"][0]["message"]["tool_calls"] for answer in answers)
    assert [call["function"] for call in one] == [call["function"] for call in two]
    assert len({call["id"] for call in (*one, *two)}) == 4


async def test_calls_of_tools_are_replayed_in_a_stream(api: Api, cached_model: FakeModel):
    cached_model.say(CALLS)
    body = chat(cached_model, tools=[WEATHER], max_tokens=200)
    said: list[dict[int, dict[str, str]]] = []
    for status in ("miss", "exact"):
        response = await api.post(PATH, body | {"stream": True})
        assert response["x-brigade-cache"] == status
        calls: dict[int, dict[str, str]] = {}
        for event in sse_events(await body_of(response))[:-1]:
            for piece in event["choices"][0]["delta"].get("tool_calls", ()):
                call = calls.setdefault(piece["index"], {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.get("id", "")
                call["name"] += piece["function"].get("name", "")
                call["arguments"] += piece["function"]["arguments"]
        said.append(calls)
    ids = {call.pop("id") for calls in said for call in calls.values()}
    assert len(ids) == 4
    assert (
        said[0]
        == said[1]
        == {
            0: {"name": "get_weather", "arguments": '{"city": "Bonn"}'},
            1: {"name": "get_weather", "arguments": '{"city": "Paris"}'},
        }
    )


async def test_random_requests_of_two_users_share_no_answer_and_agree_with_the_engine(
    api: Api, stranger: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    prompts: set[tuple[int, ...]] = set()
    letters = iter(range(ord("A"), ord("~")))

    def say_new_letter(history: list[int]) -> int:
        """Each generation has another answer."""
        if tuple(history[:-1]) in prompts:
            return END_OF_GENERATION
        prompts.add(tuple(history))
        return next(letters)

    cached_model.backend.next_token = say_new_letter
    draw = random.Random(11)
    groups = [(one, user, number) for one in (api, stranger) for user in "abc" for number in "1234"]
    requests = iter([draw.choice(groups) for _ in range(200)])
    said: dict[tuple[int, str, str], set[str]] = {}
    statuses: list[str] = []

    async def ask() -> None:
        for one, user, number in requests:
            status, text = await asked(one, chat(cached_model, f"question {number}", user=user))
            said.setdefault((one.user.pk, user, number), set()).add(text)
            statuses.append(status)

    await asyncio.gather(*(ask() for _ in range(8)))
    assert {len(texts) for texts in said.values()} == {1}
    assert len(set.union(*said.values())) == len(said) == len(groups)
    assert statuses.count("miss") == len(groups)
    assert set(statuses) <= {"miss", "exact", "flight"}
    assert await differences(redis_client) == {}
    computed = [
        (one.computed_prompt_tokens, one.computed_completion_tokens) for one in await recorded(200)
    ]
    assert tuple(map(sum, zip(*computed, strict=True))) == counted_tokens(redis_client)
    # Each answer is a letter and an end.
    assert counted_tokens(redis_client)[1] == 2 * len(groups)


async def test_only_streamed_hits_are_kept_to_be_followed_again(
    api: Api, cached_model: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Wasser")
    await asked(api, chat(cached_model))
    whole = (await api.post(PATH, chat(cached_model))).json()["id"]
    events = sse_events(await body_of(await api.post(PATH, chat(cached_model, stream=True))))
    assert not redis_client.exists(keys.stream(f"{whole}.0"))
    assert redis_client.exists(keys.stream(f"{events[0]['id']}.0"))
