"""The service inside the test process: real Postgres and Redis, a host on a model without weights.

Import the fixtures into a ``conftest.py`` or a test module. ``smollm2_path`` gives the vocabulary
with which prompts are tokenised; what is generated are bytes and depends on no vocabulary.
"""

import asyncio
import contextlib
import dataclasses
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import redis
from asgiref.sync import ThreadSensitiveContext
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import AsyncClient

from inference.database import in_database
from inference.engine.config import EngineConfig
from inference.engine.embedding import EmbeddingEngine
from inference.engine.engine import Engine
from inference.engine.engine_thread import StepEngine
from inference.messages import TERMINAL, Frame, SamplingParameters, WorkItem
from inference.models import every_scope, issue_key
from inference.prompts.tokenizer import Tokenizer
from inference.queue import keys
from inference.queue.claims import LAST, NOTHING, HostClaims, Numbered
from inference.replica.host import Host, HostConfig
from inference.runs import runtime as runtime_module
from inference.runs.runtime import Runtime
from metrics.models import RequestRecord
from models_registry.catalogue.lookup import weights_of
from models_registry.models import Model, ModelVersion
from tests.inference.engine.fake_backend import (
    END_OF_GENERATION,
    VOCABULARY_SIZE,
    FakeBackend,
    FakeSampler,
)
from tests.waiting import wait_until

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
)
KV_CELLS = 20_000
CONTEXT_TOKENS = 2048
EMBEDDING_DIMENSIONS = 4
EMBEDDING_CONTEXT_TOKENS = 32


class Script:
    """Says one text after every prompt, byte by byte, and then ends."""

    def __init__(self, text: str) -> None:
        self._tokens = [*text.encode(), END_OF_GENERATION]
        self._positions: dict[tuple[int, ...], int] = {}

    def __call__(self, history: list[int]) -> int:
        # Only what was said in answer to a known history continues it; all else is a prompt.
        position = self._positions.get(tuple(history[:-1]), -1) + 1
        self._positions[tuple(history)] = position
        return self._tokens[position]


class ByteBackend(FakeBackend):
    """Takes prompts of a real vocabulary; only ids that the fake has can be penalised."""

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> FakeSampler:
        """A sampler that has seen what it knows of ``prompt``."""
        known = [token_id for token_id in prompt if token_id < VOCABULARY_SIZE]
        return super().new_sampler(sampling, known, output, grammar)


class FakeEmbeddingBackend:
    """Unit vectors along the axis that an input's token count names."""

    dimensions = EMBEDDING_DIMENSIONS
    max_input_tokens = EMBEDDING_CONTEXT_TOKENS
    max_inputs = 8
    step_tokens = 64

    def embed(self, inputs: list[list[int]]) -> npt.NDArray[np.float32]:
        """Rows of the identity."""
        axes = [len(tokens) % self.dimensions for tokens in inputs]
        return np.eye(self.dimensions, dtype=np.float32)[axes]

    def close(self) -> None:
        """Nothing to free."""


@dataclass
class FakeModel:
    """A registered version and the fake that computes it."""

    version: ModelVersion
    backend: FakeBackend
    engine: StepEngine
    launch_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # Without them the host of a text model lets no answer be cached.
    weights: str = ""

    @property
    def slug(self) -> str:
        """The value of ``model`` in requests."""
        return self.version.model.slug

    @property
    def key(self) -> str:
        """The version key."""
        return self.version.key

    def say(self, text: str) -> None:
        """Answer every prompt with ``text``."""
        self.backend.next_token = Script(text)

    def take_time(self, step_seconds: float) -> None:
        """Let each step last so long, as a real model's would."""
        never = threading.Event()

        def wait() -> None:
            never.wait(step_seconds)

        self.backend.while_decoding = wait


class ScriptedHost:
    """A host without an engine: the test claims items and publishes frames itself."""

    def __init__(self, client: "redis.Redis", version_key: str) -> None:
        self.claims = HostClaims(client, str(uuid.uuid4()), version_key)
        self.heartbeat()

    def heartbeat(self) -> None:
        """Be ready for the next lease."""
        self.claims.heartbeat(ready=True, ttl_seconds=60, facts={"node": "test"})

    def claim(self) -> WorkItem:
        """Wait for an item and take it."""
        self.heartbeat()
        claimed: list[WorkItem] = []

        def has_claimed() -> bool:
            items, _ = self.claims.claim(1, may_take_suspect=False)
            claimed.extend(item for item, _ in items)
            return bool(claimed)

        wait_until(has_claimed)
        return claimed[0]

    def publish(self, item: WorkItem, frames: list[Frame], after: int = 0) -> None:
        """Append frames, numbered from ``after`` + 1."""
        self.claims.publish(
            [
                Numbered(item.id, number, frame, LAST if isinstance(frame, TERMINAL) else NOTHING)
                for number, frame in enumerate(frames, start=after + 1)
            ],
            600,
        )

    async def answer(self, *frames: Frame) -> WorkItem:
        """Take the next item and publish ``frames`` for it, off the event loop."""
        item = await asyncio.to_thread(self.claim)
        await asyncio.to_thread(self.publish, item, list(frames))
        return item


@dataclass
class Api:
    """A client of the API with a key, and its user."""

    client: AsyncClient
    user: Any
    secret: str

    @property
    def authorization(self) -> dict[str, str]:
        """The header that goes with every request."""
        return {"Authorization": f"Bearer {self.secret}"}

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        """POST ``body`` as JSON; bytes go as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        # As under a server: otherwise all requests share one thread for synchronous middleware.
        async with ThreadSensitiveContext():
            return await self.client.post(
                path, data, content_type="application/json", headers=self.authorization | headers
            )

    async def get(self, path: str, **headers: str) -> Any:
        """GET ``path``."""
        async with ThreadSensitiveContext():
            return await self.client.get(path, headers=self.authorization | headers)

    async def delete(self, path: str) -> Any:
        """DELETE ``path``."""
        async with ThreadSensitiveContext():
            return await self.client.delete(path, headers=self.authorization)


def make_api(username: str, scopes: list[str] | None = None, **user_fields: Any) -> Api:
    """A new user with a key of ``scopes``; all of them by default."""
    user = get_user_model().objects.create_user(username, password="correct horse", **user_fields)
    _, secret = issue_key(user, "test", every_scope() if scopes is None else scopes)
    return Api(AsyncClient(), user, secret)


def register_version(path: Path, type_: str = "text_generation", **fields: Any) -> ModelVersion:
    """A version of a new model whose vocabulary is in ``path``, a file of the models directory."""
    model = Model.objects.create(slug=f"fake-{uuid.uuid4().hex[:12]}", name="Fake", type=type_)
    defaults: dict[str, Any] = {
        "label": "v1",
        "is_default": True,
        "file_name": path.name,
        "file_state": ModelVersion.FileState.READY,
        "context_length_tokens": CONTEXT_TOKENS,
        "chat_template": TEMPLATE,
        "kv_cells": KV_CELLS,
        "max_sequences": 8,
        "default_sampling": {"temperature": 0},
    }
    return ModelVersion.objects.create(model=model, **(defaults | fields))


@contextlib.contextmanager
def host_of(model: FakeModel, client: "redis.Redis") -> Iterator[None]:
    """Serve a model from a thread of this process."""
    stop = threading.Event()
    path, weights = django_settings.INFERENCE.models_dir / model.version.file_name, model.weights
    if model.version.model.type == "embedding":
        weights = weights_of(model.version, path)
    host = Host(
        HostClaims(client, model.launch_id, model.key),
        model.engine,
        HostConfig(
            max_items=8,
            heartbeat_seconds=0.5,
            lease_seconds=5,
            stop_seconds=1,
            run_seconds=600,
            step_timeout_seconds=60,
            stream_ttl_seconds=600,
        ),
        abort=model.backend.abort,
        facts={"node": "test", "weights": weights},
        stop_requested=stop.is_set,
        on_draining=lambda: None,
    )
    thread = threading.Thread(target=host.run, name="test host", daemon=True)
    thread.start()
    wait_until(lambda: client.zscore(keys.ready(model.key), model.launch_id) is not None)
    try:
        yield
    finally:
        stop.set()
        client.lpush(keys.bell(model.key), 1)
        thread.join(10)
        assert not thread.is_alive(), "the host did not stop"


def sse_events(body: bytes) -> list[Any]:
    """The decoded ``data`` of every event; ``[DONE]`` as that string."""
    events = []
    for block in body.decode().split("\n\n"):
        data = [line[6:] for line in block.split("\n") if line.startswith("data: ")]
        if data:
            events.append(data[0] if data[0] == "[DONE]" else json.loads(data[0]))
    return events


async def body_of(response: Any) -> bytes:
    """All of a streamed response."""
    return b"".join([chunk async for chunk in response.streaming_content])


async def eventually(predicate: Callable[[], Any], timeout_seconds: float = 10.0) -> Any:
    """``wait_until`` in a thread, while the event loop goes on."""
    return await asyncio.to_thread(wait_until, predicate, timeout_seconds)


async def record_of(run_id: str) -> RequestRecord:
    """The record of a run, once it is there."""
    async with asyncio.timeout(10):
        while True:
            record = await in_database(RequestRecord.objects.filter(run_id=run_id).first)
            if record is not None:
                return record


async def recorded(count: int = 1) -> list[RequestRecord]:
    """All records, the oldest first, once there are ``count``."""
    async with asyncio.timeout(10):
        while True:
            records = await in_database(lambda: list(RequestRecord.objects.order_by("id")))
            if len(records) >= count:
                return records


@pytest.fixture
def redis_client() -> Iterator["redis.Redis"]:
    """The test Redis."""
    client: redis.Redis = redis.Redis.from_url(django_settings.REDIS_URL)
    yield client
    client.close()


@pytest.fixture(scope="session")
def shared_tokenizer() -> Iterator[Tokenizer]:
    """One prompt process for all tests: each takes a second to start."""
    tokenizer = Tokenizer(1, 1_000_000)
    yield tokenizer
    tokenizer.close()


@pytest.fixture
def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that threads of the event loop can see, and do not stay connected to."""
    monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", 0)


@pytest.fixture
def api(database: None) -> Api:
    """A client with all scopes."""
    return make_api("ada")


@pytest.fixture
def stranger(database: None) -> Api:
    """Another user's client."""
    return make_api("mallory")


@pytest.fixture
async def service(
    database: None, shared_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    """The runtime of this test's event loop; it ends before its database."""
    monkeypatch.setattr(runtime_module, "_runtime", None)
    service = runtime_module.runtime()
    service.tokenizer = shared_tokenizer
    yield service
    # Closing must leave the shared process alone.
    service.tokenizer = Tokenizer(1, 1)
    await service.close()


@pytest.fixture
def configure(
    settings: Any, service: Runtime, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Change fields of ``InferenceSettings`` for one test."""

    def change(**fields: Any) -> None:
        settings.INFERENCE = dataclasses.replace(settings.INFERENCE, **fields)
        monkeypatch.setattr(service, "settings", settings.INFERENCE)
        monkeypatch.setattr(service.queue, "_settings", settings.INFERENCE)

    return change


@pytest.fixture
def version(database: None, smollm2_path: Path) -> ModelVersion:
    """A registered text version that no host serves."""
    return register_version(smollm2_path)


@pytest.fixture
def scripted_host(version: ModelVersion, redis_client: "redis.Redis") -> ScriptedHost:
    """A host of ``version`` whose frames the test writes."""
    return ScriptedHost(redis_client, version.key)


@pytest.fixture
def model(
    version: ModelVersion, redis_client: "redis.Redis", service: Runtime
) -> Iterator[FakeModel]:
    """``version`` served by a host thread; it says letters without end unless told otherwise."""
    backend = ByteBackend(kv_cells=KV_CELLS)
    engine = Engine(backend, EngineConfig(kv_cells=KV_CELLS, max_sequences=8))
    fake = FakeModel(version, backend, engine)
    with host_of(fake, redis_client):
        yield fake


@pytest.fixture
def cached_model(
    version: ModelVersion, redis_client: "redis.Redis", service: Runtime, smollm2_path: Path
) -> Iterator[FakeModel]:
    """A host thread like that of ``model`` whose answers are cached."""
    backend = ByteBackend(kv_cells=KV_CELLS)
    engine = Engine(backend, EngineConfig(kv_cells=KV_CELLS, max_sequences=8))
    weights = weights_of(version, smollm2_path)
    fake = FakeModel(version, backend, engine, weights=weights)
    with host_of(fake, redis_client):
        yield fake


@pytest.fixture
def embedding_model(
    database: None,
    smollm2_path: Path,
    redis_client: "redis.Redis",
    service: Runtime,
) -> Iterator[FakeModel]:
    """An embedding version served by a host thread."""
    version = register_version(
        smollm2_path,
        "embedding",
        context_length_tokens=EMBEDDING_CONTEXT_TOKENS,
        embedding_dimensions=EMBEDDING_DIMENSIONS,
        chat_template="",
    )
    fake = FakeModel(version, FakeBackend(1), EmbeddingEngine(FakeEmbeddingBackend()))
    with host_of(fake, redis_client):
        yield fake
