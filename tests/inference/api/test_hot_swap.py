"""The default moves while a generation runs: it ends on its version, the next goes to the new."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from inference.database import in_database
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.orders import resolution
from models_registry.catalogue.rollout import roll_back, set_default
from models_registry.models import ModelVersion
from tests.stack import (
    KV_CELLS,
    Api,
    ByteBackend,
    FakeModel,
    body_of,
    eventually,
    host_of,
    sse_events,
)

PATH = "/v1/chat/completions"


@pytest.fixture
def newer(model: FakeModel, redis_client: redis.Redis) -> Iterator[FakeModel]:
    """Another version of the same model, served beside it."""
    version = ModelVersion.objects.get(pk=model.version.pk)
    version.pk, version.label, version.is_default = None, "v2", False
    version._state.adding = True
    version.save()
    backend = ByteBackend(kv_cells=KV_CELLS)
    engine = Engine(backend, EngineConfig(kv_cells=KV_CELLS, max_sequences=8))
    fake = FakeModel(version, backend, engine)
    with host_of(fake, redis_client):
        yield fake


@pytest.fixture
def gate(model: FakeModel) -> Iterator[threading.Event]:
    """Holds the old version after its third step, until it is set."""
    opened, steps = threading.Event(), iter(range(10_000))

    def wait() -> None:
        if next(steps) >= 3:
            opened.wait(30)

    model.backend.while_decoding = wait
    yield opened
    opened.set()


def chat(model: FakeModel, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {"model": model.slug, "messages": messages} | fields


async def answer(api: Api, body: dict[str, Any]) -> tuple[str, str]:
    """The version that answers, and what it says."""
    response = await api.post(PATH, body)
    if body.get("stream"):
        events = sse_events(await body_of(response))
        deltas = [event["choices"][0]["delta"] for event in events[:-1]]
        content = "".join(delta.get("content", "") for delta in deltas)
    else:
        content = response.json()["choices"][0]["message"]["content"]
    return response["x-brigade-model-version"], content


@pytest.mark.parametrize("stream", [False, True])
async def test_running_generation_ends_on_the_old_version_and_the_next_goes_to_the_new(
    api: Api,
    model: FakeModel,
    newer: FakeModel,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)
    model.say("the old one")
    newer.say("the new one")
    running = asyncio.create_task(answer(api, chat(model, stream=stream)))
    await eventually(lambda: model.engine.running_sequences == 1)

    await in_database(set_default, newer.version)

    assert await answer(api, chat(model)) == (newer.key, "the new one")
    assert not running.done()
    gate.set()
    assert await running == (model.key, "the old one")

    assert await answer(api, chat(model) | {"model": model.key}) == (model.key, "the old one")
    await in_database(roll_back, model.version.model)
    assert await answer(api, chat(model)) == (model.key, "the old one")
