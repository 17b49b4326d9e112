"""Questions in another wording, answered by the semantic cache."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

from caching.models import CacheVerdict, SemanticEntry
from inference.database import in_database
from inference.queue import keys
from inference.runs import reworded
from models_registry.models import ModelVersion
from models_registry.rules.cache_settings import CacheSettings
from tests.inference.api.caches import PATH, asked, chat
from tests.stack import Api, FakeModel, body_of, eventually, recorded, sse_events

pytestmark = pytest.mark.usefixtures("empty_cache")
ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
SEMANTIC = {"cache": {"match": "semantic"}}


@pytest.fixture
def embedder(
    embedding_model: FakeModel, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> FakeModel:
    """The embedder of the cache; its vectors of questions of one length are equal."""
    configure(cache_embedder=embedding_model.slug, cache=CacheSettings(shadow=False))
    # A machine under load takes longer than requests would wait.
    monkeypatch.setattr(reworded, "PATIENCE_SECONDS", 5.0)
    return embedding_model


async def learned(api: Api, model: FakeModel, text: str = ASKED, count: int = 1) -> None:
    """Let the cache know the model's answer to a question."""
    status, _ = await asked(api, chat(model, text) | SEMANTIC)
    assert status == "miss"
    await eventually(lambda: _count(SemanticEntry) == count)


async def test_question_in_other_words_is_answered_by_the_cache(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("something else")
    response = await api.post(PATH, chat(cached_model, REWORDED) | SEMANTIC)
    assert response["x-brigade-cache"] == "semantic"
    assert float(response["x-brigade-cache-similarity"]) == pytest.approx(1)
    content = response.json()
    assert content["choices"][0]["message"]["content"] == "Click on the link."
    usage = content["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
    _, hit = await recorded(2)
    assert (hit.tier, hit.computed_prompt_tokens, hit.computed_completion_tokens) == (
        "semantic",
        0,
        0,
    )
    entry = await in_database(SemanticEntry.objects.get)
    assert (entry.prompt, entry.answer_text, entry.hits) == (ASKED, "Click on the link.", 1)


async def test_semantic_hit_is_streamed_and_resumed(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    response = await api.post(PATH, chat(cached_model, REWORDED, stream=True) | SEMANTIC)
    events = sse_events(await body_of(response))
    assert response["x-brigade-cache"] == "semantic"
    again = await api.get(f"/v1/streams/{events[0]['id']}")
    assert sse_events(await body_of(again)) == events


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("How do I delete my password?", {}),
    (REWORDED, {"messages": [{"role": "user", "content": REWORDED}]}),
    (REWORDED, {"max_tokens": 31}),
    (REWORDED, {"seed": 1}),
    (REWORDED, {"user": "bob"}),
    (REWORDED, {"cache": {"match": "retyped"}}),
    (REWORDED, {"cache": {"match": "semantic", "mode": "refresh"}}),
]


async def test_another_question_is_not_answered_by_the_cache(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    for text, fields in OTHERS:
        assert (await asked(api, chat(cached_model, text) | SEMANTIC | fields))[0] == "miss"


async def test_embedder_that_is_not_in_memory_is_not_loaded(
    api: Api, cached_model: FakeModel, embedder: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    redis_client.delete("brigade:vectors", *redis_client.scan_iter("brigade:vector:*"))
    redis_client.hdel(keys.USED, embedder.key)
    ready: Any = redis_client.zrange(keys.ready(embedder.key), 0, -1)
    redis_client.zrem(keys.ready(embedder.key), *ready)
    status, _ = await asked(api, chat(cached_model, REWORDED) | SEMANTIC)
    assert status == "miss"
    assert not redis_client.hexists(keys.USED, embedder.key)


async def test_slow_search_is_a_miss_in_time(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    monkeypatch.setattr(reworded, "PATIENCE_SECONDS", 0.06)
    find = reworded.store.find

    answered = threading.Event()

    def find_late(*arguments: Any) -> Any:
        assert answered.wait(10)
        return find(*arguments)

    monkeypatch.setattr(reworded.store, "find", find_late)
    status, _ = await asked(api, chat(cached_model, REWORDED) | SEMANTIC)
    answered.set()
    assert status == "miss"


async def test_share_of_hits_is_compared_with_the_models_own_answer(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reworded, "is_compared", lambda *_: True)
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    assert (await asked(api, chat(cached_model, REWORDED) | SEMANTIC))[1] == "Click on the link."
    await eventually(lambda: _count(CacheVerdict) == 1)
    verdict = await in_database(CacheVerdict.objects.get)
    assert (verdict.prompt, verdict.answer_text, verdict.agrees) == (REWORDED, "Call 555.", None)
    # It waits for a person.
    entry = await in_database(SemanticEntry.objects.get)
    assert entry.state == SemanticEntry.State.SUSPECT
    assert len(await recorded(2)) == 2


async def test_stopped_cache_answers_nothing(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    monkeypatch.setattr(reworded.verdicts, "is_stopped", lambda *_: True)
    assert (await asked(api, chat(cached_model, REWORDED) | SEMANTIC))[0] == "miss"


async def test_answers_are_forgotten_in_all_caches(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    async def forgotten(**conditions: Any) -> tuple[int, int]:
        response = await api.post("/api/cache/forget", conditions)
        assert response.status_code == 200, response.content
        counts = response.json()
        return counts["answers"], counts["semantic_entries"]

    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    others: list[dict[str, Any]] = [
        {"version": "another@v1"},
        {"older_than": 3600},
        {"preset": "gamma"},
        {"end_user": "bob"},
        {"key": "0" * 64},
    ]
    for conditions in others:
        assert await forgotten(**conditions) == (0, 0)
    response = await api.post(PATH, chat(cached_model, ASKED) | SEMANTIC)
    assert response["x-brigade-cache"] == "exact"
    matching: list[dict[str, Any]] = [
        {"key": response["x-brigade-cache-key"]},
        {"everything": True},
        {"user": "ada"},
        {"end_user": "", "older_than": 0},
    ]
    for conditions in matching:
        assert await forgotten(**conditions) == (1, 1)
        await learned(api, cached_model)


async def test_forgetting_needs_sensible_conditions(api: Api, service: Any):
    bad: list[tuple[dict[str, Any], str | None]] = [
        ({}, None),
        ({"everything": True, "version": "m@v1"}, None),
        ({"user": "nobody"}, "user"),
        ({"key": "xyz"}, "key"),
        ({"older_than": -1}, "older_than"),
    ]
    for conditions, param in bad:
        response = await api.post("/api/cache/forget", conditions)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param


def _count(model: Any) -> int:
    count: int = model.objects.count()
    return count


async def test_entry_that_cannot_be_read_is_a_miss(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    await in_database(lambda: SemanticEntry.objects.update(answer=b"garbage"))
    assert (await asked(api, chat(cached_model, REWORDED) | SEMANTIC))[0] == "miss"
    await eventually(lambda: not SemanticEntry.objects.filter(answer=b"garbage").exists())


async def test_template_with_the_date_is_answered_by_the_same_request_only(
    api: Api, cached_model: FakeModel, embedder: FakeModel
):
    template = cached_model.version.chat_template + "{# strftime_now #}"
    rows = ModelVersion.objects.filter(pk=cached_model.version.pk)
    await in_database(functools.partial(rows.update, chat_template=template))
    cached_model.say("Click on the link.")
    assert (await asked(api, chat(cached_model, ASKED) | SEMANTIC))[0] == "miss"
    assert (await asked(api, chat(cached_model, f"hi, {ASKED}") | SEMANTIC))[0] == "miss"
    assert (await asked(api, chat(cached_model, ASKED) | SEMANTIC))[0] == "exact"
    assert not await in_database(SemanticEntry.objects.exists)


async def test_shadow_gives_the_models_answer_and_compares(
    api: Api, cached_model: FakeModel, embedder: FakeModel, configure: Callable[..., None]
):
    configure(cache=CacheSettings(shadow=True))
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    answer = await asked(api, chat(cached_model, REWORDED) | SEMANTIC)
    assert answer == ("miss", "Call 555.")
    await eventually(lambda: _count(CacheVerdict) == 1)
    verdict = await in_database(CacheVerdict.objects.get)
    assert (verdict.answer_text, verdict.agrees) == ("Call 555.", None)
