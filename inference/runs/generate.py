"""The one way from an order to an answer, for every client and every kind of answer.

    async with generate(order, principal) as run:
        async for choice, frame in run.frames(): ...

An order passes the steps of ``STEPS`` from first to last, and then a model host answers it. A step
may refuse the order, change it, answer it by a run of its own, or look at the run of the steps
after it: see ``Step``. Leaving the block stops the run if need be, and settles and records it once.
"""

import functools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from inference.errors import InferenceError, ModelBusyError
from inference.orders.order import Order
from inference.principal import Principal
from inference.runs.host_run import hosted
from inference.runs.known_vectors import known_vectors
from inference.runs.leaving import left_surely
from inference.runs.orchestrated.step import orchestrated
from inference.runs.record import admission_of, record_of
from inference.runs.reworded import reworded
from inference.runs.run import Run, new_run_id
from inference.runs.runtime import runtime
from metrics.ledger.store import day_number

Generate = Callable[[Order, Principal], AbstractAsyncContextManager[Run]]
Step = Callable[[Generate, Order, Principal], AbstractAsyncContextManager[Run]]
"""A step: an async context manager that gives a run. ``Generate`` is all that comes after it.

Its entry runs in the caller's task, which is cancelled when the client leaves. Its exit runs in
another task: keep no timeout and no task group open across the ``yield``. An exception in the
caller's block is not passed to it. A step calls ``Generate``, never ``generate`` again.
"""


@asynccontextmanager
async def recorded(onward: Generate, order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Enter the order into the ledger, and its record when its run is over and settled.

    An order that a step refuses is taken out again. When nobody knows how an accepted order ended,
    for example because the client left while it was queued, the controller finds it out.
    """
    ledger, accepted_at = runtime().ledger, time.monotonic()
    order = replace(order, run_id=order.run_id or new_run_id(order.kind))
    admission = admission_of(order, principal)
    started_at = await ledger.accept(order.run_id, admission.encode())
    async with AsyncExitStack() as stack:
        try:
            accepted = replace(order, ledger_day=day_number(started_at))
            run = await stack.enter_async_context(onward(accepted, principal))
        except InferenceError:
            ledger.withdraw(order.run_id)
            raise
        except BaseException as error:
            error.add_note(_ACCEPTED)
            ledger.leave(order.run_id)
            raise
        yield run
    record = record_of(admission, started_at, run, accepted_at)
    if record is None:
        ledger.leave(order.run_id)
    else:
        ledger.settle(record)


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


_ACCEPTED: Final = "The request was accepted before it failed."


STEPS: Final[list[Step]] = [within_limits, orchestrated, recorded, known_vectors, reworded]


def after_step(done: Step | None) -> Generate:
    """All that comes after a step; for None all steps."""
    onward: Generate = hosted
    for step in STEPS[: None if done is None else STEPS.index(done) : -1]:
        onward = functools.partial(step, onward)
    return onward


@asynccontextmanager
async def generate(order: Order, principal: Principal) -> AsyncIterator[Run]:
    """Answer an order; leaving ends the run for good.

    Raises:
        InferenceError: the order is refused, or nothing can answer it now.
    """
    async with left_surely(after_step(None)(order, principal)) as run:
        try:
            yield run
        except Exception as error:
            error.add_note(_ACCEPTED)
            raise


def was_accepted(error: Exception) -> bool:
    """Whether a request that failed has a record; else it was refused."""
    return _ACCEPTED in getattr(error, "__notes__", ())
