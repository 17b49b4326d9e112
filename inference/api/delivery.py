"""A run as an HTTP response: one JSON object, or server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from inference.answers.openai import Answer, Format
from inference.api.error_renderer import as_inference_error, error_body
from inference.api.version_headers import version_headers
from inference.api.view import json_response
from inference.messages import Delta, Failed, Finished, Frame
from inference.principal import Principal
from inference.runs.run import Run, failure_of
from inference.runs.service import InferenceService

Response = TypeVar("Response", bound=HttpResponseBase)

# No empty line behind comments: that ends an event, and SDKs then read one without data.
HEARTBEAT = b": waiting\n"
# How often somebody who waits for a model to be loaded is told how far it is.
LOADING_POLL_SECONDS = 1.0
# A client that leaves between the view and the first byte leaves a response nobody reads.
UNREAD_SECONDS = 5.0
_watches: set[asyncio.Task[None]] = set()


async def whole_response(
    service: InferenceService, run: Run, format_: Format, principal: Principal, end_user: str
) -> HttpResponse:
    """Wait for all choices and answer with one object. Raises the error of a failed choice."""
    answers = [Answer() for _ in range(run.header.choices)]
    try:
        async for entry in run.frames():
            if entry is None:
                continue
            choice, frame = entry
            if isinstance(frame, Failed):
                raise failure_of(frame)
            if isinstance(frame, (Delta, Finished)):
                answers[choice].take(frame)
    finally:
        await service.end(run, principal, end_user)
    return _with_version(json_response(format_.whole(answers, run.usage)), run)


async def event_response(
    service: InferenceService,
    run: Run,
    format_: Format,
    principal: Principal,
    end_user: str,
) -> StreamingHttpResponse:
    """Answer with events once the first frame is there; until then an error has a status.

    While the model is being loaded there are comments at once, ``: loading 40 %``.

    Raises:
        InferenceError: the first frame was a failure, or none came in time.
    """
    try:
        first = await _first_frame(service, run)
        if first is not None and isinstance(first[1], Failed):
            raise failure_of(first[1])
    except BaseException:
        await service.end(run, principal, end_user)
        raise
    if first is None:
        events = _events_after_loading(service, run, format_)
    else:
        events = _events(run, format_, first, service.settings.sse_heartbeat_seconds)
    if run.header.include_usage:
        events = _with_usage(events, run, format_)

    async def end() -> None:
        await service.end(run, principal, end_user)

    return _with_version(await _event_stream(_ended(events), end), run)


async def _first_frame(service: InferenceService, run: Run) -> tuple[int, Frame] | None:
    """The first frame; None when its model is on its way into memory, which the client may see."""
    async for entry in run.frames(idle_seconds=LOADING_POLL_SECONDS):
        if entry is not None or await service.load_fraction(run) is not None:
            return entry
    return None


async def _events_after_loading(
    service: InferenceService, run: Run, format_: Format
) -> AsyncIterator[bytes]:
    """Comments on how far the model of a run is on its way into memory, then the events."""
    first: tuple[int, Frame] | None = None
    async for entry in run.frames(idle_seconds=LOADING_POLL_SECONDS):
        if entry is not None:
            first = entry
            if isinstance(first[1], Failed):
                raise failure_of(first[1])
            break
        fraction = await service.load_fraction(run)
        yield HEARTBEAT if fraction is None else b": loading %d %%\n" % round(100 * fraction)
    async for event in _events(run, format_, first, service.settings.sse_heartbeat_seconds):
        yield event


async def resumed_response(
    service: InferenceService, run: Run, format_: Format
) -> StreamingHttpResponse:
    """Events of a run that another request started; leaving does not stop it."""
    await run.open()
    events = _events(run, format_, None, service.settings.sse_heartbeat_seconds)
    if run.header.include_usage:
        events = _with_usage(events, run, format_)
    return _with_version(await _event_stream(_ended(events), run.close), run)


def _with_version(response: Response, run: Run) -> Response:
    for name, value in version_headers(run.header.version_key, run.header.deprecation).items():
        response[name] = value
    return response


async def _events(
    run: Run,
    format_: Format,
    first: tuple[int, Frame] | None,
    heartbeat_seconds: float,
) -> AsyncIterator[bytes]:
    """Events of all choices. Raises ``InferenceError`` when one fails."""
    for choice in [choice for choice, seen in enumerate(run.after) if not seen]:
        opening = format_.opening(choice)
        if opening is not None:
            yield _event(opening, run)
    if first is not None:
        event = _frame_event(run, format_, *first)
        if event:
            yield event
    async for entry in run.frames(idle_seconds=heartbeat_seconds):
        if entry is None:
            yield HEARTBEAT
            continue
        event = _frame_event(run, format_, *entry)
        if event:
            yield event


async def _with_usage(
    events: AsyncIterator[bytes], run: Run, format_: Format
) -> AsyncIterator[bytes]:
    async for event in events:
        yield event
    yield _event(format_.usage(run.usage), run)


async def _ended(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events, then ``[DONE]``, or instead of it one error."""
    try:
        async for event in events:
            yield event
        yield b"data: [DONE]\n\n"
    except Exception as error:
        body: dict[str, Any] = error_body(as_inference_error(error))
        yield b"data: " + msgspec.json.encode(body) + b"\n\n"


async def _event_stream(
    events: AsyncIterator[bytes], end: Callable[[], Awaitable[None]]
) -> StreamingHttpResponse:
    """A response that calls ``end`` once, also when the client has left before the first byte."""

    asked_for = asyncio.Event()

    async def until_the_end() -> AsyncIterator[bytes]:
        try:
            async for event in events:
                asked_for.set()
                yield event
        finally:
            asked_for.set()
            await end()

    async def end_unless_asked_for() -> None:
        # A generator that is never started never comes to its ``finally``.
        try:
            async with asyncio.timeout(UNREAD_SECONDS):
                await asked_for.wait()
        except TimeoutError:
            await end()

    watch = asyncio.create_task(end_unless_asked_for())
    _watches.add(watch)
    watch.add_done_callback(_watches.discard)
    stream = until_the_end()
    response = StreamingHttpResponse(stream, content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    # nginx would otherwise collect the events.
    response["X-Accel-Buffering"] = "no"
    return response


def _frame_event(run: Run, format_: Format, choice: int, frame: Frame) -> bytes:
    chunk: dict[str, Any] | None = None
    if isinstance(frame, Delta):
        chunk = format_.delta(choice, frame)
    elif isinstance(frame, Finished):
        chunk = format_.finish(choice, frame)
    elif isinstance(frame, Failed) and run.is_new(choice):
        raise failure_of(frame)
    return _event(chunk, run) if chunk is not None and run.is_new(choice) else b""


def _event(content: dict[str, Any], run: Run) -> bytes:
    """One event; its id is where to resume: the last frame seen of each choice."""
    return b"id: %b\ndata: %b\n\n" % (cursor_of(run).encode(), msgspec.json.encode(content))


def cursor_of(run: Run) -> str:
    """Where a reader of this run stands, for ``Last-Event-ID``."""
    return ",".join(map(str, run.positions))
