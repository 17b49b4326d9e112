"""A host over a model without weights, in a thread of the test, and readers of what it says."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import TERMINAL, Delta, Finished, Frame, Generation, Started
from inference.queue import keys
from inference.queue.claims import HostClaims
from inference.replica.host import Host, HostConfig
from inference.streams.reader import StreamReader
from tests.inference.engine.fake_backend import FakeBackend, letter_after
from tests.inference.queue.redis_connections import new_client_name
from tests.inference.queue.world import STREAM_TTL_SECONDS, QueueWorld
from tests.waiting import wait_until

Entry = tuple[int, Frame]
CONFIG = HostConfig(
    max_items=4,
    heartbeat_seconds=0.1,
    lease_seconds=5.0,
    stop_seconds=10.0,
    run_seconds=600,
    step_timeout_seconds=60.0,
    stream_ttl_seconds=STREAM_TTL_SECONDS,
)


class Pace:
    """Lets the model step only as often as the test allows."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._steps = 0.0

    def allow(self, steps: float) -> None:
        """Let so many more steps be computed; infinity lets go for good."""
        with self._changed:
            self._steps += steps
            self._changed.notify_all()

    def allow_one(self) -> None:
        """Let one more step be computed, unless one is allowed already."""
        with self._changed:
            self._steps = max(self._steps, 1)
            self._changed.notify_all()

    def __call__(self) -> None:
        """Wait for permission for one step."""
        with self._changed:
            self._changed.wait_for(lambda: self._steps > 0)
            self._steps -= 1


class RunningHost:
    """A host and the thread that is its process; a context manager that ends it."""

    def __init__(
        self,
        world: QueueWorld,
        *,
        paced: bool = False,
        redis_options: Any = None,
        free: Callable[[], None] = lambda: None,
        **config: Any,
    ) -> None:
        self.launch_id = world.new_launch()
        self.client_name = new_client_name()
        self.pace = Pace()
        self.backend = FakeBackend(kv_cells=4096)
        if paced:
            self.backend.while_decoding = self.pace
        self.engine = Engine(self.backend, EngineConfig(kv_cells=4096, max_sequences=4))
        self.draining = 0
        self.ending: BaseException | None = None
        self.stop = threading.Event()
        self._world = world
        client: redis.Redis = redis.Redis.from_url(
            settings.REDIS_URL, client_name=self.client_name, **(redis_options or {})
        )
        self._host = Host(
            HostClaims(client, self.launch_id, world.version_key),
            self.engine,
            replace(CONFIG, **config),
            abort=self.backend.abort,
            facts={"node": "test"},
            stop_requested=self.stop.is_set,
            on_draining=self._note_draining,
            free=free,
        )
        self._thread = threading.Thread(target=self._run, name="host under test", daemon=True)

    def __enter__(self) -> "RunningHost":
        self._thread.start()
        ready = keys.ready(self._world.version_key)
        wait_until(lambda: self._world.redis.zscore(ready, self.launch_id) is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.pace.allow(float("inf"))
        self.join()

    def advance(self, item: Generation, tokens: int) -> None:
        """Step until a reader of ``item`` has so many more of its tokens."""
        wanted = len(token_ids(self._world.frames(item))) + tokens

        def has_said_it() -> bool:
            if len(token_ids(self._world.frames(item))) >= wanted:
                return True
            self.pace.allow_one()
            return False

        wait_until(has_said_it)

    def join(self) -> BaseException | None:
        """Wait until the host has ended; returns what it raised."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.ending

    def _run(self) -> None:
        try:
            self._host.run()
        except BaseException as error:
            self.ending = error

    def _note_draining(self) -> None:
        self.draining += 1


def read_all(*items: Generation) -> list[list[Entry]]:
    """Every stream to its end, as the web process reads it."""

    async def read() -> list[list[Entry]]:
        entries: dict[str, list[Entry]] = {item.id: [] for item in items}
        open_streams = set(entries)
        async with redis.asyncio.Redis.from_url(settings.REDIS_URL) as client:
            reader = StreamReader(client)
            async with reader.follow(dict.fromkeys(entries, 0)) as followed, asyncio.timeout(15):
                while open_streams:
                    item_id, number, frame = await followed.next()
                    entries[item_id].append((number, frame))
                    if isinstance(frame, TERMINAL):
                        open_streams.discard(item_id)
            await reader.close()
        return list(entries.values())

    return asyncio.run(read())


def said_alone(item: Generation) -> list[int]:
    """The tokens that the model says after a prompt when nothing runs beside it."""
    history = list(item.prompt_token_ids)
    for _ in range(item.max_tokens):
        history.append(letter_after(history))
    return history[len(item.prompt_token_ids) :]


def deltas(entries: list[Entry]) -> list[Delta]:
    """The new tokens of a stream."""
    return [frame for _, frame in entries if isinstance(frame, Delta)]


def token_ids(entries: list[Entry]) -> list[int]:
    """All new tokens of a stream."""
    return [token_id for delta in deltas(entries) for token_id in delta.token_ids]


def check_whole(item: Generation, entries: list[Entry]) -> None:
    """A stream without gap or repetition that says what the model says alone."""
    expected = said_alone(item)
    assert [number for number, _ in entries] == list(range(1, len(entries) + 1))
    assert token_ids(entries) == expected
    assert "".join(delta.text for delta in deltas(entries)) == bytes(expected).decode()
    started = entries[0][1]
    assert isinstance(started, Started)
    assert started.prompt_tokens == len(item.prompt_token_ids)
    last = entries[-1][1]
    assert isinstance(last, Finished)
    assert last.reason == "length"
    usage = last.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        len(item.prompt_token_ids),
        item.max_tokens,
    )
    assert sum(isinstance(frame, (Started, *TERMINAL)) for _, frame in entries) == 2
