"""Runs that another request started: follow them again, or stop them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import django.db
import msgspec
import redis

from inference.errors import InvalidRequestError, NotFoundError
from inference.messages import decode_header
from inference.principal import Principal
from inference.queue import keys
from inference.queue.relay import LEASE_SECONDS
from inference.runs.cached_answers import sources
from inference.runs.generate import after_step
from inference.runs.host_run import HostRun
from inference.runs.orchestrated.step import adopt, orchestrated
from inference.runs.run import Run
from inference.runs.runtime import runtime

logger = logging.getLogger(__name__)


async def find(principal: Principal, run_id: str, after: Sequence[int] = ()) -> HostRun:
    """A run of this caller, not open yet.

    Args:
        principal: the caller.
        run_id: its id.
        after: last frame seen per choice; empty or all 0 reads from the beginning.

    Raises:
        NotFoundError: no such run, too long ago, or somebody else's.
        InvalidRequestError: ``after`` has another number of choices.
    """
    shared = runtime()
    data: Any = await shared.redis.get(keys.header(run_id))
    header = decode_header(data) if data else None
    own = header.item_ids[0] if header else ""
    (first,) = await sources(shared.redis, [own])
    is_kept = await shared.redis.exists(keys.item(first), keys.stream(first), keys.stream(own))
    if header is None or not is_kept or header.user_id != principal.user_id:
        raise NotFoundError(
            f"There is no stream {run_id!r}. Streams are kept for "
            f"{shared.settings.stream_ttl_seconds} s after their end.",
            code="stream_not_found",
        )
    if any(after) and len(after) != header.choices:
        raise InvalidRequestError(
            f"The position names {len(after)} choices, but the run has {header.choices}.",
            param="after",
        )
    return HostRun(header, shared, after if any(after) else ())


@asynccontextmanager
async def resumed(
    principal: Principal, run_id: str, after: Sequence[int] = ()
) -> AsyncIterator[Run]:
    """A run to read again; leaving does not stop it. Arguments and errors as ``find``."""
    run = await find(principal, run_id, after)
    adopting = asyncio.create_task(_keep_alive(run))
    try:
        await run.open()
        yield run
    finally:
        adopting.cancel()
        await run.close()


async def _keep_alive(run: Run) -> None:
    """Go on with a run of several models whenever its process dies while somebody reads it."""
    while run.header.mode and not run.is_over:
        try:
            await adopt(after_step(orchestrated), run.header)
        except (django.db.Error, redis.RedisError, msgspec.DecodeError) as error:
            logger.warning("the run %s is not taken over: %r", run.header.id, error)
        await asyncio.sleep(LEASE_SECONDS / 2)
