"""Embeddings from the cache: the same numbers, without the model."""

import base64
import os
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from django.utils import timezone

from caching import vectors
from inference.database import in_database
from inference.engine.embedding import EmbeddingEngine
from inference.engine.llama.embedding_backend import LlamaEmbeddingBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.queue import keys
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion, Price
from tests.inference.engine.fake_backend import FakeBackend
from tests.models_registry import gguf_samples
from tests.stack import (
    EMBEDDING_CONTEXT_TOKENS,
    EMBEDDING_DIMENSIONS,
    Api,
    FakeEmbeddingBackend,
    FakeModel,
    host_of,
    make_api,
    record_of,
    recorded,
    register_version,
)

PATH = "/v1/embeddings"
ROUTE = "/api/models/registrations"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than the cache's users would wait."""
    monkeypatch.setattr(vectors, "PATIENCE_SECONDS", 10.0)


@pytest.fixture
def computed(embedding_model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The inputs that the model has computed."""
    return inputs_of(embedding_model, monkeypatch)


def inputs_of(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    backend: Any = model.engine.backend
    embed, inputs = backend.embed, []

    def noting(batch: list[list[int]]) -> Any:
        inputs.extend(batch)
        return embed(batch)

    monkeypatch.setattr(backend, "embed", noting)
    return inputs


def body(model: FakeModel, value: Any, **fields: Any) -> dict[str, Any]:
    return {"model": model.slug, "input": value, **fields}


async def rows(response: Any) -> list[list[float]]:
    assert response.status_code == 200, response.content
    return [row["embedding"] for row in response.json()["data"]]


async def test_only_texts_that_are_not_known_go_to_the_model_and_equal_ones_once(
    api: Api, embedding_model: FakeModel, computed: list[list[int]]
):
    first = await api.post(PATH, body(embedding_model, [[1], [1, 2]]))
    assert first["x-brigade-cache"] == "miss"
    computed.clear()
    texts = [[5, 6, 7], [1, 2], [5, 6, 7, 8], [1], [5, 6, 7]]
    second = await api.post(PATH, body(embedding_model, texts))
    assert second["x-brigade-cache"] == "miss"
    assert computed == [[5, 6, 7], [5, 6, 7, 8]]
    axes = [row.index(1.0) for row in await rows(second)]
    assert axes == [len(text) % EMBEDDING_DIMENSIONS for text in texts]
    assert second.json()["usage"] == {"prompt_tokens": 13, "total_tokens": 13}
    _, record = await recorded(2)
    assert (record.prompt_tokens, record.cached_tokens) == (13, 6)
    assert (record.computed_prompt_tokens, record.tier) == (7, "")
    third = await api.post(PATH, body(embedding_model, texts))
    assert third["x-brigade-cache"] == "exact"
    assert await rows(third) == await rows(second)
    assert third.json()["usage"] == second.json()["usage"]
    assert len(computed) == 2


def add_price(version: ModelVersion) -> None:
    """1,000 USD per million tokens of a prompt."""
    yesterday = timezone.now() - timedelta(days=1)
    Price.objects.create(version=version, valid_from=yesterday, prompt_usd_per_million_tokens=1000)


async def test_an_answer_from_the_cache_is_recorded_and_costs_nothing(
    api: Api, embedding_model: FakeModel
):
    await in_database(add_price, embedding_model.version)
    for _ in range(2):
        await api.post(PATH, body(embedding_model, [[1, 2, 3]]))
    computed, cached = await recorded(2)
    assert (computed.tier, computed.computed_prompt_tokens) == ("", 3)
    assert computed.cost_nano > 0
    assert (cached.tier, cached.outcome, cached.cost_nano) == ("exact", "finished", 0)
    assert (cached.prompt_tokens, cached.cached_tokens) == (3, 3)
    assert (cached.computed_prompt_tokens, cached.device_us) == (0, 0)
    assert cached.ttft_us is not None


async def test_known_vectors_need_no_model_in_memory_and_load_none(
    api: Api,
    service: Runtime,
    redis_client: redis.Redis,
    smollm2_path: Path,
):
    model = await in_database(fake_model, smollm2_path)
    with host_of(model, redis_client):
        before = await rows(await api.post(PATH, body(model, ["one", "one two"])))
    used = redis_client.hget(keys.USED, model.key)
    after = await api.post(PATH, body(model, ["one two", "one"]))
    assert after["x-brigade-cache"] == "exact"
    assert await rows(after) == before[::-1]
    assert redis_client.hget(keys.USED, model.key) == used
    assert redis_client.exists(keys.queue(model.key), keys.bell(model.key)) == 0
    unknown = await api.post(PATH, body(model, ["one", "three"]))
    assert unknown.status_code == 503


def fake_model(path: Path, **fields: Any) -> FakeModel:
    """An embedding version without a host."""
    version = register_version(
        path,
        "embedding",
        context_length_tokens=EMBEDDING_CONTEXT_TOKENS,
        embedding_dimensions=EMBEDDING_DIMENSIONS,
        chat_template="",
        **fields,
    )
    return FakeModel(version, FakeBackend(1), EmbeddingEngine(FakeEmbeddingBackend()))


@pytest.fixture
def small_file(service: Runtime) -> Iterator[Path]:
    """A model file that a test may replace."""
    path = service.settings.models_dir / f"{uuid.uuid4().hex}.gguf"
    gguf_samples.write_llama(path)
    yield path
    path.unlink()


async def test_vectors_of_a_replaced_file_are_not_given(
    api: Api,
    service: Runtime,
    redis_client: redis.Redis,
    small_file: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    model = await in_database(fake_model, small_file)
    old_inputs = inputs_of(model, monkeypatch)
    request = body(model, [[2, 3]])
    with host_of(model, redis_client):
        for tier in ("miss", "exact"):
            assert (await api.post(PATH, request))["x-brigade-cache"] == tier
        replace_file(small_file)
        service.resolver._kept.clear()
        # This host has still loaded the old file, so nothing is kept of what it computes.
        for _ in range(2):
            assert (await api.post(PATH, request))["x-brigade-cache"] == "miss"
    assert len(old_inputs) == 3
    new = FakeModel(model.version, model.backend, EmbeddingEngine(FakeEmbeddingBackend()))
    new_inputs = inputs_of(new, monkeypatch)
    with host_of(new, redis_client):
        for tier in ("miss", "exact"):
            assert (await api.post(PATH, request))["x-brigade-cache"] == tier
    assert len(new_inputs) == 1


def replace_file(path: Path) -> None:
    """Put another file of the same size and time there."""
    before = path.stat()
    new = gguf_samples.write_llama(path.with_name(f"new-{path.name}"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


async def test_vectors_are_shared_between_users_as_prefixes_are(
    api: Api,
    stranger: Api,
    embedding_model: FakeModel,
    configure: Callable[..., None],
):
    second_key = await in_database(make_api, "carol")

    async def tiers(text: list[int]) -> list[str]:
        answers = [
            await client.post(PATH, body(embedding_model, [text]))
            for client in (api, stranger, second_key, api)
        ]
        return [answer["x-brigade-cache"] for answer in answers]

    assert await tiers([1]) == ["miss", "miss", "miss", "exact"]
    configure(prefix_sharing="all")
    assert await tiers([2]) == ["miss", "exact", "exact", "exact"]


async def test_cache_can_be_turned_off(
    api: Api, embedding_model: FakeModel, configure: Callable[..., None]
):
    configure(embedding_cache_ttl_seconds=0)
    for _ in range(2):
        answer = await api.post(PATH, body(embedding_model, [[1]]))
        assert answer["x-brigade-cache"] == "miss"


async def test_cache_has_the_number_of_vectors_that_the_setting_allows(
    api: Api,
    embedding_model: FakeModel,
    redis_client: redis.Redis,
    configure: Callable[..., None],
):
    configure(embedding_cache_entries=2, embedding_cache_ttl_seconds=50)
    await api.post(PATH, body(embedding_model, [[1], [1, 1], [1, 1, 1]]))
    assert redis_client.zcard(vectors.LAST_USES) == 2
    for key in redis_client.zrange(vectors.LAST_USES, 0, -1):
        assert 40 < redis_client.ttl(vectors.PREFIX + key.decode()) <= 50


async def test_garbage_in_the_cache_is_computed_again(
    api: Api, embedding_model: FakeModel, redis_client: redis.Redis
):
    redis_client.delete(vectors.LAST_USES)
    before = await rows(await api.post(PATH, body(embedding_model, [[1]])))
    (key,) = redis_client.zrange(vectors.LAST_USES, 0, -1)
    redis_client.set(vectors.PREFIX + key.decode(), b"\xff" * 16)
    for tier in ("miss", "exact"):
        answer = await api.post(PATH, body(embedding_model, [[1]]))
        assert answer["x-brigade-cache"] == tier
        assert await rows(answer) == before


async def test_a_failed_request_keeps_its_error(
    api: Api, embedding_model: FakeModel, redis_client: redis.Redis
):
    await api.post(PATH, body(embedding_model, [[1]]))
    await in_database(ModelVersion.objects.update, context_length_tokens=1000)
    registry_only = body(embedding_model, [[1], [2] * (EMBEDDING_CONTEXT_TOKENS + 1)])
    registry_only["model"] = embedding_model.key  # not what the resolver has just read
    answer = await api.post(PATH, registry_only)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    *_, record = await recorded(2)
    assert (record.outcome, record.error_code) == ("failed", "context_length_exceeded")


async def test_registered_programs_are_told_that_all_came_from_the_cache(
    api: Api, embedding_model: FakeModel
):
    for model_id, fields in (("mine", {}), ("fresh", {"cache_embeddings": False})):
        need = {"model_type": "embedding", "name": embedding_model.slug, "batch_size": 2, **fields}
        sent = {"model_id": model_id, "requester_module_id": "a", "model_config": need}
        assert (await api.post(ROUTE, sent)).status_code == 201

    async def answers(model_id: str, *texts: str) -> tuple[bool, str]:
        sent = {"model_id": model_id, "texts": texts}
        content = (await api.post(f"{ROUTE}/embeddings", sent)).json()
        return content["cached"], content["worker_id"]

    host = embedding_model.launch_id
    assert await answers("mine", "a", "a b", "a b c") == (False, host)
    assert await answers("mine", "a b c", "a", "a b") == (True, "")
    # The second batch has a text that is not known.
    assert await answers("mine", "a b c", "a", "a b", "new") == (False, host)
    assert await answers("fresh", "a", "a b") == (False, host)


@pytest.fixture
def minilm(
    database: None, minilm_path: Path, redis_client: redis.Redis, service: Runtime
) -> Iterator[FakeModel]:
    """The real model, served by a host thread."""
    version = register_version(
        minilm_path,
        "embedding",
        context_length_tokens=512,
        embedding_dimensions=384,
        chat_template="",
    )
    options = LlamaOptions(threads=2)
    backend = LlamaEmbeddingBackend(minilm_path, step_tokens=512, max_inputs=8, options=options)
    fake = FakeModel(version, FakeBackend(1), EmbeddingEngine(backend))
    with host_of(fake, redis_client):
        yield fake
    backend.close()


async def test_real_model_computes_two_of_five_texts_and_both_formats_agree(
    api: Api, minilm: FakeModel, monkeypatch: pytest.MonkeyPatch
):
    inputs = inputs_of(minilm, monkeypatch)
    known = ["a happy person", "a sunny day"]
    texts = ["the queue is full", known[1], "a dog barks", known[0], "the queue is full"]
    direct = await rows(await api.post(PATH, body(minilm, known)))
    inputs.clear()
    answer = await api.post(PATH, body(minilm, texts))
    found = await rows(answer)
    assert len(inputs) == 2
    assert (found[1], found[3], found[0]) == (direct[1], direct[0], found[4])
    coded = await api.post(PATH, body(minilm, texts, encoding_format="base64"))
    assert coded["x-brigade-cache"] == "exact"
    for row, other in zip(found, coded.json()["data"], strict=True):
        vector = np.frombuffer(base64.b64decode(other["embedding"]), dtype="<f4")
        assert vector.tolist() == row
    assert coded.json()["usage"] == answer.json()["usage"]
    run = (await recorded(3))[-1]
    assert (await record_of(run.run_id)).tier == "exact"
    # A text is not computed otherwise because it was alone or among others.
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert len(inputs) == 2


async def test_header_for_caches_of_answers_is_named_as_ignored(
    api: Api, embedding_model: FakeModel
):
    answer = await api.post(PATH, body(embedding_model, ["one"]), **{"x-brigade-cache": "no-store"})
    assert answer.status_code == 200
    assert answer["Brigade-Ignored"] == "x-brigade-cache"
