"""Answers of several models, as a step of ``generate``, and runs whose process has died."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from inference.database import in_database
from inference.errors import InferenceError, InvalidRequestError
from inference.messages import RunHeader, encode
from inference.orchestration.bounds import calls_at_most
from inference.orchestration.requests import request_of
from inference.orders.cast import Cast
from inference.orders.chat import chat_order
from inference.orders.order import Order
from inference.orders.requests import ChatRequest
from inference.principal import Principal
from inference.queue import keys
from inference.queue.relay import Relay
from inference.runs.host_run import HostRun
from inference.runs.orchestrated import rows
from inference.runs.orchestrated.conductor import Conductor
from inference.runs.run import Run, header_of, new_run_id
from inference.runs.runtime import runtime

if TYPE_CHECKING:
    from inference.runs.generate import Generate


@asynccontextmanager
async def orchestrated(
    onward: "Generate", order: Order, principal: Principal
) -> AsyncIterator[Run]:
    """Let several models answer an order that names them; each of their calls has its record.

    Raises:
        InferenceError: a member cannot take the request, or the run would make too many calls.
    """
    cast, request, shared = order.cast, order.request, runtime()
    if cast is None or not isinstance(request, ChatRequest):
        async with onward(order, principal) as run:
            yield run
        return
    call_syntax = await _checked(request, cast)
    order = replace(order, run_id=new_run_id("chat"), call_syntax=call_syntax)
    header = header_of(order, principal)
    relay = Relay(shared.redis, shared.settings, header.item_ids[0])
    await in_database(rows.create, order, request, cast, principal)
    lasting = (
        int(shared.settings.orchestration.timeout_seconds) + shared.settings.stream_ttl_seconds
    )
    await shared.redis.set(keys.header(header.id), encode(header), ex=lasting)
    await relay.take(is_new=True)
    conductor = Conductor(header, request, cast, principal, onward, relay)
    shared.spawn(conductor.conduct())
    run = HostRun(header, shared)
    try:
        await run.open()
        yield run
    finally:
        try:
            await run.settle()
        finally:
            await run.close()


async def adopt(onward: "Generate", header: RunHeader) -> None:
    """Go on with a run of several models whose process has died; do nothing if it lives."""
    shared = runtime()
    relay = Relay(shared.redis, shared.settings, header.item_ids[0])
    sent = await relay.take(is_new=False)
    frozen = None if sent is None else await in_database(rows.find, header.id)
    if frozen is None or sent is None:
        return
    conductor = Conductor(
        header, frozen.request, frozen.cast, frozen.principal, onward, relay, sent
    )
    shared.spawn(conductor.conduct())


async def _checked(request: ChatRequest, cast: Cast) -> str:
    """The way in which the members write calls of tools, encoded; "" without tools.

    Raises:
        InferenceError: there would be too many calls, or a member cannot take the request.
    """
    most, calls = runtime().settings.orchestration.max_calls, calls_at_most(cast, cast.settings)
    if calls > most:
        raise InvalidRequestError(
            f"This {cast.mode} would make up to {calls} calls; at most {most} are allowed "
            "(INFERENCE_ORCHESTRATION_MAX_CALLS). Use fewer rounds or members.",
            param="model",
        )
    specs = {member.spec.version_key: member.spec for member in cast.members}
    syntaxes: dict[str, str] = {}
    for key, spec in specs.items():
        try:
            order = await chat_order(runtime(), request_of(request, "check"), spec)
        except InferenceError as error:
            error.message = f"{spec.model_slug}: {error.message}"
            raise
        syntaxes[key] = order.call_syntax
    writers = [member for member in cast.members if member.participant != "critic"]
    if len({syntaxes[member.spec.version_key] for member in writers}) > 1:
        names = ", ".join(sorted({member.spec.model_slug for member in writers}))
        raise InvalidRequestError(
            f"The members {names} write calls of tools in different ways. Use members of one "
            "family, or no tools.",
            param="tools",
        )
    return syntaxes[cast.answering.spec.version_key]
