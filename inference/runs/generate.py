"""The one way from an order to an answer, for every client and every kind of answer.

    async with generate(order, principal) as run:
        async for choice, frame in run.frames(): ...

An order passes the steps of ``STEPS`` from first to last, and then a model host answers it. A step
may refuse the order, change it, answer it by a run of its own, or look at the run of the steps
after it: see ``Step``. Leaving the block stops the run if need be, and settles and records it once.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from inference.database import in_database
from inference.errors import ModelBusyError
from inference.orders.order import Order
from inference.principal import Principal
from inference.runs.host_run import hosted
from inference.runs.record import record_of
from inference.runs.run import Run
from inference.runs.runtime import runtime
from metrics.recorder import record_run

logger = logging.getLogger(__name__)

Generate = Callable[[Order, Principal], AbstractAsyncContextManager[Run]]
Step = Callable[[Generate, Order, Principal], AbstractAsyncContextManager[Run]]
"""A step: an async context manager that gives a run. ``Generate`` is all that comes after it.

Its entry runs in the caller's task, which is cancelled when the client leaves. Its exit runs in
another task: keep no timeout and no task group open across the ``yield``. An exception in the
caller's block is not passed to it. A step calls ``Generate``, never ``generate`` again.
"""


@asynccontextmanager
async def recorded(onward: Generate, order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Write the record of a run when it is over and settled."""
    async with onward(order, principal) as run:
        yield run
    record = record_of(run, principal, order.end_user)
    try:
        await in_database(record_run, record)
    except Exception as error:
        # The answer is out already; a missing record must not look like a failed request.
        values = {name: value for name, value in vars(record).items() if name != "_state"}
        logger.error("run %s could not be recorded: %s %s", run.header.id, values, error)


@asynccontextmanager
async def within_limits(onward: Generate, order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Refuse more runs at once than this process may have, in all or of one model."""
    shared, model = runtime(), order.spec.model_slug
    in_all, of_model = shared.places.total(), shared.places[model]
    if in_all >= shared.settings.max_concurrent_requests:
        raise ModelBusyError(
            f"This service runs {in_all} requests at once already "
            "(INFERENCE_MAX_CONCURRENT_REQUESTS). Try again in a moment."
        )
    if of_model >= shared.settings.max_concurrent_per_model:
        raise ModelBusyError(
            f"This service runs {of_model} requests for {model} at once already "
            "(INFERENCE_MAX_CONCURRENT_PER_MODEL). Try again in a moment."
        )
    shared.places[model] += 1
    try:
        async with onward(order, principal) as run:
            yield run
    finally:
        shared.places[model] -= 1


STEPS: Final[list[Step]] = [recorded, within_limits]


@asynccontextmanager
async def generate(order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Answer an order; leaving ends the run for good.

    Raises:
        InferenceError: the order is refused, or nothing can answer it now.
    """
    onward: Generate = hosted
    for step in reversed(STEPS):
        onward = functools.partial(step, onward)
    stack = AsyncExitStack()
    run = await stack.enter_async_context(onward(order, principal))
    try:
        yield run
    finally:
        # The caller may be cancelled because its client left: a task of its own ends the run.
        await asyncio.shield(runtime().spawn(_leave(run, stack)))


async def _leave(run: Run, stack: AsyncExitStack) -> None:
    try:
        await run.settle()
    finally:
        await stack.aclose()
