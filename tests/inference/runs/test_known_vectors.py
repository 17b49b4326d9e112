"""Runs of which only a part is computed: their ends, and what is kept of them."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from caching import vectors
from inference.database import in_database
from inference.engine.engine_thread import EngineThread
from inference.errors import HostLostError, InternalError, QueueTimeoutError
from inference.messages import Embedding, Failed, Finished, Frame, Started, Usage, Vectors
from inference.orders.order import Order
from inference.principal import Principal
from inference.queue import keys
from inference.runs.embedding import Embedded, embed
from inference.runs.runtime import Runtime
from models_registry.catalogue.lookup import spec_of
from models_registry.rules.spec import ModelSpec
from tests.stack import FakeModel, ScriptedHost, recorded, register_version

ANN = Principal(7, "ann", frozenset())


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than the cache's users would wait."""
    monkeypatch.setattr(vectors, "PATIENCE_SECONDS", 10.0)


def frames(axes: list[int], dimensions: int = 4) -> list[Frame]:
    """The answer of a host: unit vectors along axes, for texts of one token each."""
    data = np.eye(dimensions, dtype="<f4")[axes].tobytes()
    usage = Usage(len(axes), 0, computed_prompt_tokens=len(axes))
    return [Started(len(axes)), Vectors(dimensions, data, len(axes)), Finished("stop", usage)]


class Scripted:
    """An embedding version whose host is the test."""

    def __init__(self, spec: ModelSpec, client: "redis.Redis") -> None:
        self.spec, self.host = spec, ScriptedHost(client, spec.version_key)
        client.hset(keys.host(self.host.claims._launch_id), "weights", spec.weights)

    async def embed(self, texts: list[list[int]], *answer: Frame) -> tuple[Embedded, Embedding]:
        """Vectors, and the item that the host got."""
        order = Order("embedding", self.spec, texts)
        asked = asyncio.create_task(embed(order, ANN, "input"))
        item: Any = await self.host.answer(*answer)
        return await asked, item


@pytest.fixture
def scripted(service: Runtime, smollm2_path: Path, redis_client: "redis.Redis") -> Scripted:
    version = register_version(smollm2_path, "embedding", embedding_dimensions=4)
    return Scripted(spec_of(version, service.settings.models_dir), redis_client)


async def test_texts_that_are_missing_come_in_their_order(scripted: Scripted):
    await scripted.embed([[11]], *frames([3]))
    found, item = await scripted.embed([[10], [11], [12], [10]], *frames([0, 1]))
    assert item.inputs == [[10], [12]]
    assert found.rows.argmax(axis=1).tolist() == [0, 3, 1, 0]
    assert (found.prompt_tokens, found.cached) == (4, False)


async def test_vectors_of_another_length_are_not_mixed_with_known_ones(scripted: Scripted):
    await scripted.embed([[11]], *frames([3]))
    with pytest.raises(InternalError, match="replaced meanwhile"):
        await scripted.embed([[10], [11]], *frames([0], dimensions=8))
    _, record = await recorded(2)
    assert (record.outcome, record.error_code) == ("failed", "internal_error")


async def test_failure_of_the_computed_part_is_the_failure_of_all(scripted: Scripted):
    await scripted.embed([[11]], *frames([3]))
    with pytest.raises(HostLostError):
        await scripted.embed([[10], [11]], Failed("host_lost", "It died."))
    found, item = await scripted.embed([[10], [11]], *frames([1]))
    assert item.inputs == [[10]]
    assert found.rows.argmax(axis=1).tolist() == [1, 3]
    records = [(each.outcome, each.error_code) for each in await recorded(3)]
    assert records == [("finished", ""), ("failed", "host_lost"), ("finished", "")]


async def test_computed_part_that_is_late_fails_the_request(
    scripted: Scripted, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    await scripted.embed([[11]], *frames([3]))
    monkeypatch.setattr("inference.runs.host_run.FIRST_FRAME_SLACK_SECONDS", 0.0)
    configure(queue_timeout_seconds=0.2)
    with pytest.raises(QueueTimeoutError):
        await embed(Order("embedding", scripted.spec, [[10], [11]]), ANN, "input")
    _, record = await recorded(2)
    assert (record.outcome, record.error_code) == ("failed", "queue_timeout")


async def test_run_that_is_left_is_recorded_with_the_tokens_that_were_computed(
    service: Runtime,
    embedding_model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
):
    spec = await in_database(spec_of, embedding_model.version, service.settings.models_dir)
    await embed(Order("embedding", spec, [[1]]), ANN, "input")
    backend: Any = embedding_model.engine.backend
    compute, has_begun, may_end = backend.embed, threading.Event(), threading.Event()

    def slowly(inputs: list[list[int]]) -> Any:
        has_begun.set()
        may_end.wait(10)
        return compute(inputs)

    cancel = EngineThread.cancel

    def noting(thread: EngineThread, item_id: str) -> None:
        cancel(thread, item_id)
        may_end.set()

    monkeypatch.setattr(backend, "embed", slowly)
    monkeypatch.setattr(EngineThread, "cancel", noting)
    texts = [[1], *([n] for n in range(2, 30))]
    asked = asyncio.create_task(embed(Order("embedding", spec, texts), ANN, "input"))
    await asyncio.to_thread(has_begun.wait, 10)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    _, record = await recorded(2)
    assert (record.outcome, record.tier) == ("cancelled", "")
    assert record.prompt_tokens == record.computed_prompt_tokens < len(texts) - 1
    assert not service.places.total()
