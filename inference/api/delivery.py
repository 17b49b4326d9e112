"""A run as an HTTP response: one JSON object, or server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from inference.answers.openai import Answer, Format
from inference.api.cache_header import cache_headers
from inference.api.error_renderer import as_inference_error, error_body
from inference.api.version_headers import version_headers
from inference.api.view import json_response
from inference.messages import Delta, Failed, Finished, Frame, Phase, RunHeader
from inference.orders.order import Order
from inference.principal import Principal
from inference.runs.generate import generate
from inference.runs.resume import resumed
from inference.runs.run import Run, failure_of
from inference.runs.runtime import runtime

Response = TypeVar("Response", bound=HttpResponseBase)
FormatOf = Callable[[RunHeader], Format]

# No empty line behind comments: that ends an event, and SDKs then read one without data.
HEARTBEAT = b": waiting\n"
# How often a client that waits for a model to be loaded is told how far the load is.
LOADING_POLL_SECONDS = 1.0
# A client that leaves between the view and the first byte leaves a response nobody reads.
UNREAD_SECONDS = 5.0
_watches: set[asyncio.Task[None]] = set()


async def answer(
    order: Order, principal: Principal, format_of: FormatOf, *, streamed: bool
) -> HttpResponseBase:
    """Answer an order with one object, or with events from its first frame on.

    Until the first frame an error has a status. While the model is being loaded there are comments
    at once, ``: loading 40 %``.

    Raises:
        InferenceError: the order is refused; nothing came in time; a choice failed, when streamed
            before anything was sent.
    """
    if not streamed:
        return await _whole(order, principal, format_of)
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(generate(order, principal))
        stream = EventStream(run, format_of(run.header))
        await stream.begin()
        return _streaming(stream, stack.pop_all().aclose)


async def resumed_answer(
    principal: Principal, run_id: str, after: list[int], format_of: FormatOf
) -> HttpResponseBase:
    """Events of a run that another request started; leaving does not stop it."""
    async with AsyncExitStack() as stack:
        run = await stack.enter_async_context(resumed(principal, run_id, after))
        return _streaming(EventStream(run, format_of(run.header)), stack.pop_all().aclose)


async def _whole(order: Order, principal: Principal, format_of: FormatOf) -> HttpResponse:
    async with generate(order, principal) as run:
        answers = [Answer() for _ in run.choices]
        async for choice, frame in run.frames():
            if isinstance(frame, Failed):
                raise failure_of(frame)
            if isinstance(frame, (Delta, Finished)):
                answers[choice].take(frame)
    content = format_of(run.header).whole(answers, run.usage)
    content |= _summary_of(run)
    if run.cache.tier:
        content["cache"] = run.cache.tier
    return _with_version(json_response(content), run)


class EventStream:
    """The events of a run, for one client.

    Args:
        run: open.
        format_: how the route writes frames.
    """

    def __init__(self, run: Run, format_: Format) -> None:
        self.run = run
        self._format = format_
        self._heartbeat_seconds = runtime().settings.sse_heartbeat_seconds
        self._is_loading = False

    async def begin(self) -> None:
        """Wait for the first frame, or until the model is on its way into memory.

        Raises:
            InferenceError: the first frame was a failure, or none came in time.
        """
        while (frame := await self.run.peek(LOADING_POLL_SECONDS)) is None:
            if await self.run.loading() is not None:
                self._is_loading = True
                return
        if isinstance(frame, Failed):
            raise failure_of(frame)

    async def events(self) -> AsyncIterator[bytes]:
        """Events until the run is over; the last one is ``[DONE]`` or an error."""
        try:
            async for event in self._events():
                yield event
            yield b"data: [DONE]\n\n"
        except Exception as error:
            body: dict[str, Any] = error_body(as_inference_error(error))
            yield b"data: " + msgspec.json.encode(body) + b"\n\n"

    async def _events(self) -> AsyncIterator[bytes]:
        run, first = self.run, None
        while self._is_loading and (first := await run.peek(LOADING_POLL_SECONDS)) is None:
            fraction = await run.loading()
            yield HEARTBEAT if fraction is None else b": loading %d %%\n" % round(100 * fraction)
        if isinstance(first, Failed):
            raise failure_of(first)
        for choice in [choice for choice, seen in enumerate(run.after) if not seen]:
            opening = self._format.opening(choice)
            if opening is not None:
                yield self._event(opening)
        while not run.is_over:
            entry = await run.next(self._heartbeat_seconds)
            if entry is None:
                yield HEARTBEAT
            elif (chunk := self._chunk(*entry)) is not None:
                yield self._event(chunk)
        if run.header.include_usage:
            yield self._event(self._format.usage(run.usage) | _summary_of(run))

    def _chunk(self, choice: int, frame: Frame) -> dict[str, Any] | None:
        """The chunk of a frame, if it is new. Raises ``InferenceError`` for a failure."""
        chunk = None
        if isinstance(frame, Delta):
            chunk = self._format.delta(choice, frame)
        elif isinstance(frame, Finished):
            chunk = self._format.finish(choice, frame)
        elif isinstance(frame, Phase):
            chunk = self._format.phase(frame)
        elif isinstance(frame, Failed) and self.run.is_new(choice):
            raise failure_of(frame)
        return chunk if self.run.is_new(choice) else None

    def _event(self, content: dict[str, Any]) -> bytes:
        """One event; its id is the place to resume: the last frame read of each choice."""
        place = ",".join(map(str, self.run.positions)).encode()
        return b"id: %b\ndata: %b\n\n" % (place, msgspec.json.encode(content))


def _summary_of(run: Run) -> dict[str, Any]:
    """The fields that an answer of several models has besides OpenAI's."""
    last = run.choices[0].finished
    return last.summary if last else {}


def _with_version(response: Response, run: Run) -> Response:
    headers = version_headers(run.header.version_key, run.header.deprecation)
    for name, value in (headers | cache_headers(run.cache)).items():
        response[name] = value
    return response


def _streaming(
    stream: EventStream, leave: Callable[[], Awaitable[object]]
) -> StreamingHttpResponse:
    """A response that calls ``leave`` even if the client leaves before the first byte."""
    asked_for, streaming = asyncio.Event(), runtime().streaming
    streaming.add(leave)

    async def end() -> None:
        try:
            await leave()
        finally:
            streaming.discard(leave)

    async def until_the_end() -> AsyncIterator[bytes]:
        asked_for.set()
        try:
            async for event in stream.events():
                yield event
        finally:
            await end()

    async def leave_unless_asked_for() -> None:
        # A generator that is never started never comes to its ``finally``.
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                await asked_for.wait()
        except TimeoutError:
            await end()

    watch = asyncio.create_task(leave_unless_asked_for())
    _watches.add(watch)
    watch.add_done_callback(_watches.discard)
    response = StreamingHttpResponse(until_the_end(), content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    # nginx would otherwise collect the events.
    response["X-Accel-Buffering"] = "no"
    return _with_version(response, stream.run)
