"""Cached answers in Redis: which there are, and forgetting them."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from redis import Redis

from inference.queue import keys
from inference.queue.cache_plan import CachedAnswer
from inference.queue.scripts import script

BATCH: Final = 500
_decode: Final = msgspec.json.Decoder(CachedAnswer).decode


def cached_answers(client: Redis) -> Iterator[tuple[str, CachedAnswer]]:
    """The key of each answer, and the facts about it."""
    for key, value in client.hscan_iter(keys.CACHED, count=BATCH):
        yield key.decode(), _decode(value)


def forget(client: Redis, matches: Callable[[str, CachedAnswer], bool]) -> int:
    """Delete the answers that match; return their number."""
    found = [key for key, about in cached_answers(client) if matches(key, about)]
    delete: Any = client.register_script(script("forget"))
    batches = (found[first : first + BATCH] for first in range(0, len(found), BATCH))
    return sum(delete(args=batch) for batch in batches)


def forget_outdated(client: Redis, *, keeps_unloaded: bool) -> int:
    """Delete expired answers and, unless they are kept, those of versions not in memory."""
    now, ready = time.time(), set()
    if not keeps_unloaded:
        versions = {about.version for _, about in cached_answers(client)}
        ready = {version for version in versions if client.exists(keys.ready(version))}
    return forget(
        client,
        lambda _, about: about.expires_at < now or not (keeps_unloaded or about.version in ready),
    )
