"""This process's connections, for requests on one event loop."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import redis.asyncio
from django.conf import settings as django_settings

from inference.conf import InferenceSettings, inference_settings
from inference.orders.resolution import Resolver
from inference.prompts.tokenizer import Tokenizer
from inference.queue.queue import Queue
from inference.streams.reader import StreamReader
from metrics.ledger.flusher import Ledger

MAX_REDIS_CONNECTIONS = 32
MAX_SEARCHES = 8


class Runtime:
    """Connections and processes that all requests share.

    Attributes:
        places: runs of this process, by model.
        streaming: a function per streamed response that leaves its run. Without this reference
            the garbage collector may find a dropped response and its run together, and close both
            at once.
        login_slot: held while a password is checked.
        searching: held during each search of the semantic cache.
        comparing: held while the model answers the question of a semantic hit, too.
    """

    def __init__(self, settings: InferenceSettings, redis_url: str) -> None:
        self.settings = settings
        # A pool that waits: the usual one raises when a hundred clients leave at once.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            redis_url,
            max_connections=MAX_REDIS_CONNECTIONS,
            timeout=10,
            socket_connect_timeout=2,
            health_check_interval=30,
        )
        self.redis = redis.asyncio.Redis(connection_pool=pool)
        self.queue = Queue(self.redis, settings)
        self.reader = StreamReader(self.redis)
        self.ledger = Ledger(self.redis)
        self.tokenizer = Tokenizer(settings.prompt_workers, settings.max_prompt_characters)
        self.resolver = Resolver(settings.models_dir, settings=settings.orchestration)
        self.places: Counter[str] = Counter()
        self.streaming: set[Callable[[], Awaitable[object]]] = set()
        self.login_slot = asyncio.Semaphore(1)
        self.searching = asyncio.Semaphore(MAX_SEARCHES)
        self.comparing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` in a task that a leaving client does not cancel."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Close connections and processes; runs that are ending get 2 s to reach their end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        await self.ledger.close()
        await self.reader.close()
        self.tokenizer.close()
        await self.redis.aclose()


_runtime: Runtime | None = None
_loop: asyncio.AbstractEventLoop | None = None


def runtime() -> Runtime:
    """The runtime of this process and event loop, made on first use."""
    global _runtime, _loop
    loop = asyncio.get_running_loop()
    if _runtime is None or _loop is not loop:
        _runtime = Runtime(inference_settings(), django_settings.REDIS_URL)
        _loop = loop
    return _runtime
