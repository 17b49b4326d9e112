"""The end of a run whose reader may have left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from inference.runs.run import Run
from inference.runs.runtime import runtime


@asynccontextmanager
async def left_surely(context: AbstractAsyncContextManager[Run]) -> AsyncIterator[Run]:
    """The run of ``context``, which is settled and left in a task of its own.

    The reader may be cancelled because its client has left; ``context`` never sees its errors.
    """
    stack = AsyncExitStack()
    run = await stack.enter_async_context(context)
    try:
        yield run
    finally:
        await asyncio.shield(runtime().spawn(_leave(run, stack)))


async def _leave(run: Run, stack: AsyncExitStack) -> None:
    try:
        await run.settle()
    finally:
        await stack.aclose()
