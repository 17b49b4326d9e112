"""Vectors of texts, kept in Redis for some time; ``keep`` limits their number.

brigade:vector:<key>   string       the vector of one text, as little-endian float32
brigade:vectors        sorted set   key → when it was last asked for
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caching.keys import digest

logger = logging.getLogger(__name__)

# A late answer is a miss: computing a vector takes little longer.
PATIENCE_SECONDS = 0.05
PREFIX: Final = "brigade:vector:"
LAST_USES: Final = "brigade:vectors"
_KEEP: Final = (Path(__file__).parent / "vectors.lua").read_text()
Condition = tuple[str, str, str]
"""A hash in Redis, a field and its value."""


def key_of(embedder: Sequence[Any], token_ids: Sequence[int]) -> str:
    """The key of a text; ``embedder`` is all besides the text that must be equal for a hit."""
    return digest(embedder, token_ids)


async def find(client: Redis, keys: Sequence[str], dimensions: int) -> dict[str, bytes] | None:
    """The kept unit vectors of ``dimensions`` values, by key; None without an answer of Redis."""
    pipeline = client.pipeline(transaction=False)
    pipeline.mget([PREFIX + key for key in keys])
    # Only the order matters, so the clocks of web processes are good enough.
    pipeline.zadd(LAST_USES, dict.fromkeys(keys, time.time()), xx=True)
    answer: list[Any] | None = await _in_time(pipeline.execute())
    if answer is None:
        return None
    pairs = zip(keys, answer[0], strict=True)
    return {key: value for key, value in pairs if value and _is_vector(value, dimensions)}


async def keep(
    client: Redis, rows: Mapping[str, bytes], ttl_seconds: int, most: int, condition: Condition
) -> None:
    """Keep vectors by key if ``condition`` is met, and of all no more than ``most``."""
    name, *field = condition
    pairs = [part for row in rows.items() for part in row]
    script: Any = client.register_script(_KEEP)
    call = script([LAST_USES, name], [PREFIX, ttl_seconds, most, time.time(), *field, *pairs])
    await _in_time(call)


async def _in_time(work: Awaitable[Any]) -> Any:
    answer = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await work
    except (RedisError, TimeoutError) as error:
        logger.warning("the cache of vectors does not answer: %r", error)
    # redis-py may turn the cancellation of this task into an error or an answer of its own.
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
    return answer


def _is_vector(value: bytes, dimensions: int) -> bool:
    if len(value) != 4 * dimensions:
        return False
    row = np.frombuffer(value, dtype="<f4").astype(float)  # garbage may overflow a square
    return bool(abs(np.linalg.norm(row) - 1) < 1e-3)
