"""Options of requests and settings of the operator for the caches."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from caching.answers import forget_outdated
from inference.database import in_database
from models_registry.models import Preset
from tests.inference.api.caches import PATH, asked, chat
from tests.inference.api.test_delivery import http_request
from tests.inference.api.test_ledger import add_price
from tests.stack import (
    Api,
    FakeModel,
    recorded,
)

pytestmark = pytest.mark.usefixtures("empty_cache")
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


async def test_bad_cache_options_are_named(api: Api, cached_model: FakeModel):
    for options, param in BAD:
        response = await api.post(PATH, chat(cached_model, cache=options))
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


async def test_hit_is_given_at_the_pace_that_is_asked_for(api: Api, cached_model: FakeModel):
    cached_model.say("0123456789")
    await asked(api, chat(cached_model))
    began = asyncio.get_running_loop().time()
    assert await asked(api, chat(cached_model, cache={"pace": 100})) == ("exact", "0123456789")
    assert asyncio.get_running_loop().time() - began > 0.09


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
