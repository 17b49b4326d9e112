"""Cached answers in Redis: list and delete them. The scripts of the queue store and give them.

brigade:cached         hash     key → facts about a cached answer, JSON
brigade:cache:<key>    stream   its frames
brigade:cache_use, brigade:cache_bytes    the order of their last uses, and their bytes
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from redis import Redis

logger = logging.getLogger(__name__)

INDEX: Final = "brigade:cached"
BATCH: Final = 500
FORGET_FUNCTION: Final = (Path(__file__).parent / "forget.lua").read_text()
"""The function ``forget(key)`` in Lua, to be put before a script."""
_FORGET_ALL: Final = """
local count = 0
for _, key in ipairs(ARGV) do count = count + forget(key) end
return count
"""


class CachedAnswer(msgspec.Struct, frozen=True):
    """The facts about a cached answer by which it is found and forgotten.

    The script that stores it adds ``bytes``, ``made_at`` and ``expires_at`` (Unix seconds), and
    ``retyped``, the key of a pointer to it.
    """

    version: str
    preset: str
    user: int
    end_user: str
    bytes: int = 0
    made_at: float = 0.0
    expires_at: float = 0.0


_decode: Final = msgspec.json.Decoder(CachedAnswer).decode


def cached_answers(client: Redis) -> Iterator[tuple[str, CachedAnswer]]:
    """The key of each answer, and the facts about it."""
    for key, value in client.hscan_iter(INDEX, count=BATCH):
        try:
            yield key.decode(), _decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.error("the facts of the cached answer %r cannot be read: %s", key, error)
            client.hdel(INDEX, key)


def forget(client: Redis, matches: Callable[[str, CachedAnswer], bool]) -> int:
    """Delete the answers that match; return their number."""
    found = [key for key, about in cached_answers(client) if matches(key, about)]
    delete: Any = client.register_script(FORGET_FUNCTION + _FORGET_ALL)
    batches = (found[first : first + BATCH] for first in range(0, len(found), BATCH))
    return sum(delete(args=batch) for batch in batches)


def forget_outdated(client: Redis, unloaded: Collection[str]) -> int:
    """Delete expired answers, and those of versions that are not in memory, if they go then."""
    now = time.time()
    return forget(client, lambda _, about: about.expires_at < now or about.version in unloaded)
