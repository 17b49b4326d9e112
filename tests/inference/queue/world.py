"""A version with its queue in the real Redis, and everything that acts on it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import redis
import redis.asyncio
from django.conf import settings as django_settings

from caching.answers import CachedAnswer
from inference.conf import InferenceSettings, inference_settings
from inference.messages import Delta, Frame, Generation, SamplingParameters, Started, decode_frame
from inference.queue import keys
from inference.queue.cache_plan import CachePlan
from inference.queue.claims import NOTHING, HostClaims, Numbered
from inference.queue.queue import Queue
from inference.queue.sweep import Sweep

T = TypeVar("T")
STREAM_TTL_SECONDS = 60


class QueueWorld:
    """One version under a name of its own, so that nothing else in this Redis is touched."""

    def __init__(self) -> None:
        self.redis: redis.Redis = redis.Redis.from_url(django_settings.REDIS_URL)
        self.version_key = f"test-{uuid.uuid4().hex}@v"
        self.settings: InferenceSettings = replace(
            inference_settings(),
            lease_seconds=5.0,
            queue_timeout_seconds=60.0,
            stream_ttl_seconds=STREAM_TTL_SECONDS,
            queue_strategy="priority",
            max_queue_size=50,
        )
        self.sweep = Sweep(self.redis, self.settings.lease_seconds, STREAM_TTL_SECONDS)
        self._launches: list[str] = []
        self._items: list[str] = []

    def close(self) -> None:
        """Remove every key that was made here."""
        names = [keys.queue(self.version_key), keys.bell(self.version_key)]
        names.append(keys.ready(self.version_key))
        for item_id in self._items:
            names += [keys.item(item_id), keys.stream(item_id), keys.source(item_id)]
        for launch in self._launches:
            names += self.keys_of_launch(launch)
            self.redis.zrem(keys.HOSTS, launch)
            self.redis.srem(keys.DEAD, launch)
        self.redis.delete(*names)
        self.redis.close()

    @staticmethod
    def keys_of_launch(launch: str) -> list[str]:
        """Names of all keys that belong to one host."""
        names = (keys.host, keys.claims, keys.control, keys.fenced, keys.host_log)
        return [name(launch) for name in names]

    def new_launch(self) -> str:
        """The id of a host to come; its keys are removed with the world."""
        return self.adopt(str(uuid.uuid4()))

    def adopt(self, launch_id: str) -> str:
        """Remove the keys of this host, too, when the test is over."""
        self._launches.append(launch_id)
        return launch_id

    def host(self, *, ready: bool = True) -> "ScriptedHost":
        """A living host without an engine."""
        return ScriptedHost(self, self.new_launch(), ready=ready)

    def generation(self, prompt: str = "hello", **fields: Any) -> Generation:
        """A greedy generation of this version."""
        item = Generation(
            # Items queued together are served in the order of their ids.
            id=f"{self.version_key}.{len(self._items):03}",
            version_key=self.version_key,
            prompt_token_ids=list(prompt.encode()),
            **{"max_tokens": 20, "sampling": SamplingParameters(temperature=0.0), **fields},
        )
        self._items.append(item.id)
        return item

    def enqueue(self, *items: Generation, **settings: Any) -> None:
        """Queue items as the web process does, with some settings changed."""
        self.with_queue(lambda queue: queue.enqueue(items), **settings)

    def enqueued(self, *args: Any, **fields: Any) -> Generation:
        """A new generation that waits."""
        item = self.generation(*args, **fields)
        self.enqueue(item)
        return item

    def plan(self, item: Generation, key: str, **fields: Any) -> CachePlan:
        """A plan to share the generation of an item, and to keep its answer, under a key."""
        run, _, number = item.id.rpartition(".")
        shared = f"{run}-shared.{number}"
        self._items.append(shared)
        about = CachedAnswer(version=self.version_key, preset="", user=1, end_user="")
        defaults = {"ttl": 600, "budget": 10**6, "read": True}
        return CachePlan(item=shared, key=key, about=about, **{**defaults, **fields})

    def age(self, *items: Generation) -> None:
        """Have items wait for so long that they are left to no host in particular."""
        for item in items:
            enqueued = float(self.field(item, "enqueued") or 0)
            self.redis.hset(keys.item(item.id), "enqueued", enqueued - 0.2)

    def cancel(self, item: Generation) -> bool:
        """Stop an item as the web process does."""
        return self.with_queue(lambda queue: queue.cancel(self.version_key, item.id))

    def with_queue(self, action: Callable[[Queue], Awaitable[T]], **settings: Any) -> T:
        """Do something with a queue on a connection of its own."""

        async def act() -> T:
            async with redis.asyncio.Redis.from_url(django_settings.REDIS_URL) as client:
                return await action(Queue(client, replace(self.settings, **settings)))

        return asyncio.run(act())

    def waiting(self) -> list[str]:
        """Ids in the queue, first served first."""
        members: Any = self.redis.zrange(keys.queue(self.version_key), 0, -1)
        return [member.decode() for member in members]

    def frames(self, item: Generation) -> list[tuple[int, Frame]]:
        """A stream as it is: numbers and frames."""
        entries: Any = self.redis.xrange(keys.stream(item.id))
        return [
            (int(number.split(b"-")[0]), decode_frame(fields[b"f"])) for number, fields in entries
        ]

    def field(self, item: Generation, name: str) -> bytes | None:
        """One field of an item's hash."""
        value: Any = self.redis.hget(keys.item(item.id), name)
        return value


class ScriptedHost:
    """A host whose every move the test makes."""

    def __init__(self, world: QueueWorld, launch_id: str, *, ready: bool) -> None:
        self.launch_id = launch_id
        self.claims = HostClaims(world.redis, launch_id, world.version_key)
        self.beat(ready=ready)

    def beat(self, *, ready: bool = True) -> None:
        """Renew the lease."""
        self.claims.heartbeat(ready=ready, ttl_seconds=60, facts={"node": "test"})

    def claim(
        self, max_items: int = 10, *, suspects: bool = True, above_priority: int = -1
    ) -> list[str]:
        """Ids of items taken now; fails the test if one had expired."""
        items, expired = self.claims.claim(max_items, suspects, above_priority)
        assert not expired
        return [item.id for item, _ in items]

    def take(self) -> Generation:
        """The one item that can be taken now."""
        ((item, _),), _ = self.claims.claim(1, may_take_suspect=True)
        assert isinstance(item, Generation)
        return item

    def publish(self, item: Generation, number: int, frame: Frame, mark: int = NOTHING) -> None:
        """Append one frame."""
        self.claims.publish([Numbered(item.id, number, frame, mark)], STREAM_TTL_SECONDS)

    def say(self, item: Generation, *texts: str) -> None:
        """Start answering, one frame for each text."""
        self.publish(item, 1, Started(len(item.prompt_token_ids)))
        for number, text in enumerate(texts, start=2):
            self.publish(item, number, Delta(text, list(text.encode())))

    def die(self) -> None:
        """Crash: the lease has run out."""
        self.claims.abandon(crashed=True)
