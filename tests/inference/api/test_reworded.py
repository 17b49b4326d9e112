"""Questions in another wording, answered by the semantic cache."""

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
from django.db import connections

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import verdicts
from inference.database import in_database
from inference.messages import Drain, encode
from inference.queue import keys
from inference.runs import comparison, reworded, semantic_search
from models_registry.models import ModelVersion, Node, Replica
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


async def test_slow_embedder_is_a_miss_that_waits_for_nothing(
    api: Api,
    cached_model: FakeModel,
    embedder: FakeModel,
    redis_client: "redis.Redis",
    monkeypatch: pytest.MonkeyPatch,
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    monkeypatch.setattr(reworded, "PATIENCE_SECONDS", 0.06)
    monkeypatch.setattr(semantic_search, "SEARCH_SECONDS", 1.0)
    is_asked, may_answer = threading.Event(), threading.Event()
    backend: Any = embedder.engine.backend
    embed = backend.embed

    def embed_late(inputs: list[list[int]]) -> Any:
        is_asked.set()
        assert may_answer.wait(10)
        return embed(inputs)

    monkeypatch.setattr(backend, "embed", embed_late)
    assert await asked(api, chat(cached_model, REWORDED) | SEMANTIC) == ("miss", "Call 555.")
    # The embedder is still at work, until the search has lasted too long.
    (search,) = [one for one in asyncio.all_tasks() if "search_answer" in repr(one.get_coro())]
    await eventually(is_asked.is_set)
    await eventually(lambda: _is_cancelled(redis_client, embedder))
    may_answer.set()
    await asyncio.wait({search})
    assert isinstance(search.exception(), TimeoutError)


async def test_stopped_embedder_is_a_miss_and_is_not_loaded(
    api: Api, cached_model: FakeModel, embedder: FakeModel, redis_client: "redis.Redis"
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    redis_client.rpush(keys.control(embedder.launch_id), encode(Drain()))
    await eventually(lambda: not redis_client.exists(keys.host(embedder.launch_id)))
    redis_client.hdel(keys.USED, embedder.key)
    # It would be loaded, if anything asked for it.
    redis_client.sadd(keys.LOADABLE, embedder.key)
    assert await asked(api, chat(cached_model, REWORDED) | SEMANTIC) == ("miss", "Call 555.")
    redis_client.srem(keys.LOADABLE, embedder.key)
    assert not redis_client.hexists(keys.USED, embedder.key)
    assert not redis_client.exists(keys.queue(embedder.key))


@contextmanager
def locked(table: str) -> Iterator[psycopg.Connection]:
    """Keep everybody else from a table."""
    with psycopg.connect(**connections["default"].get_connection_params()) as holder:
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield holder
        holder.rollback()


async def test_search_that_postgres_does_not_answer_is_a_miss(
    api: Api, cached_model: FakeModel, embedder: FakeModel, caplog: pytest.LogCaptureFixture
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    with locked("caching_semanticvector"):
        answer = await asked(api, chat(cached_model, REWORDED) | SEMANTIC)
    assert answer == ("miss", "Call 555.")
    assert "find failed: canceling statement due to statement timeout" in caplog.text


async def test_search_whose_connection_breaks_is_a_miss(
    api: Api,
    cached_model: FakeModel,
    embedder: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    cached_model.say("Call 555.")
    monkeypatch.setattr(reworded.store, "FIND_MILLISECONDS", 10_000)
    with locked("caching_semanticvector") as holder:

        def breaks() -> bool:
            """Cut the connection that waits for the table."""
            rows = holder.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks "
                "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            return bool(rows.fetchall())

        request = asyncio.create_task(asked(api, chat(cached_model, REWORDED) | SEMANTIC))
        await eventually(breaks)
        assert await request == ("miss", "Call 555.")
    assert "find failed: terminating connection" in caplog.text


async def test_share_of_hits_is_compared_with_the_models_own_answer(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparison, "is_compared", lambda *_: True)
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


async def test_hit_that_is_not_compared_is_noted_with_its_question(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparison, "is_compared", lambda *_: False)
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    await asked(api, chat(cached_model, REWORDED) | SEMANTIC)
    await eventually(lambda: _count(CacheVerdict) == 1)
    noted = await in_database(CacheVerdict.objects.get)
    assert (noted.prompt, noted.answer_text, noted.source) == (REWORDED, "", "hit")
    assert await in_database(verdicts.tallies) == []


async def test_stopped_cache_answers_nothing(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    cached_model.say("Click on the link.")
    await learned(api, cached_model)
    monkeypatch.setattr(semantic_search.verdicts, "is_stopped", lambda *_: True)
    assert (await asked(api, chat(cached_model, REWORDED) | SEMANTIC))[0] == "miss"


async def test_cache_whose_answers_differ_from_the_models_stops_and_says_so(
    api: Api, cached_model: FakeModel, embedder: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(comparison, "is_compared", lambda *_: True)
    monkeypatch.setattr(verdicts, "_TALLY_SECONDS", 0.0)
    tasks = ["reset my password", "cancel my order", "change my address", "delete my account"]

    def serve() -> None:
        node = Node.objects.create(name="local")
        Replica.objects.create(version=cached_model.version, node=node, state=Replica.State.READY)

    async def notice() -> str:
        response = await api.get("/health/ready")
        assert response.status_code == 200, response.content
        return str(response.json().get("notice", ""))

    async def statuses() -> list[str]:
        """The tiers that answer the questions in other words; each is compared."""
        found = []
        for task in tasks[:3]:
            body = chat(cached_model, f"How can I {task}?") | SEMANTIC
            compared = await in_database(_count, CacheVerdict)
            found.append((await asked(api, body))[0])
            if found[-1] == "semantic":
                await eventually(functools.partial(_exceeds, CacheVerdict, compared))
        return found

    await in_database(serve)
    cached_model.say("Click on the link.")
    for count, task in enumerate(tasks, 1):
        await learned(api, cached_model, f"How do I {task}?", count)
    assert await notice() == ""
    cached_model.say("Call 555.")
    assert await statuses() == ["semantic"] * 3
    assert (await notice()).startswith(f"The semantic cache of {cached_model.key} ")
    # This entry has not been compared.
    last = chat(cached_model, f"How can I {tasks[3]}?") | SEMANTIC
    assert await asked(api, last) == ("miss", "Call 555.")
    # A person finds that the answers say the same.
    chosen = await in_database(lambda: list(CacheVerdict.objects.values_list("pk", flat=True)))
    await in_database(verdicts.decide, chosen, True)
    assert await notice() == ""
    assert await statuses() == ["semantic"] * 3


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


def _exceeds(model: Any, count: int) -> bool:
    return _count(model) > count


def _is_cancelled(client: "redis.Redis", model: FakeModel) -> bool:
    """Tell whether the host of a model was told to stop an item."""
    claimed: Any = client.hkeys(keys.claims(model.launch_id))
    return any(client.hexists(keys.item(one.decode()), "cancelled") for one in claimed)


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
    assert (await asked(api, chat(cached_model, ASKED) | SEMANTIC))[0] == "miss;exact-only"
    assert (await asked(api, chat(cached_model, f"hi, {ASKED}") | SEMANTIC))[0] == "miss;exact-only"
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
