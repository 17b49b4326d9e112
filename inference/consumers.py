"""Chat over a WebSocket: ``{"event": …, "data": {…}}`` in both directions.

docs/api.md describes the events. ``index`` in them is the number of a frame: a client that was cut
off resumes from the last it has seen.
"""

import asyncio
import logging
from typing import Annotated, Any
from urllib.parse import parse_qs
from uuid import UUID

import msgspec
from channels.generic.websocket import AsyncWebsocketConsumer
from msgspec import Meta

from inference.answers.openai import usage_object
from inference.answers.tool_calls import CallReader, readers_of
from inference.api.delivery import LOADING_POLL_SECONDS
from inference.api.error_renderer import as_inference_error, error_body
from inference.api.ignored import report_ignored
from inference.api.registry.progress import progress_of
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import AuthenticationError, InvalidRequestError, PayloadTooLargeError
from inference.messages import Delta, Failed, Finished, Frame, Phase
from inference.orders.chat import chat_order
from inference.orders.hints import hints_in
from inference.orders.parsing import decode_json, parse
from inference.orders.requests import ChatRequest
from inference.principal import INFERENCE, MODELS_READ, Principal, credential_of, principal_of
from inference.request_id import accepted_id, current_request_id, id_of_headers
from inference.runs.generate import generate, was_accepted
from inference.runs.resume import find, resumed
from inference.runs.run import Run, failure_of
from inference.runs.runtime import runtime
from inference.tracing import begin_request, end_request

logger = logging.getLogger(__name__)

# Close codes of the range for applications.
CLOSE_UNAUTHENTICATED = 4401
CLOSE_FORBIDDEN = 4403
MAX_STREAMS_PER_CONNECTION = 32

FrameNumber = Annotated[int, Meta(ge=0, le=10**9)]


class ResumeData(msgspec.Struct, forbid_unknown_fields=True):
    """``index`` is a list, one number for each choice, where there are several."""

    stream_id: str
    index: FrameNumber | list[FrameNumber] | None = None


class StopData(msgspec.Struct, forbid_unknown_fields=True):
    """Without an id, everything on this connection stops."""

    stream_id: str | None = None


class FollowData(msgspec.Struct, forbid_unknown_fields=True):
    download_id: UUID


class ChatConsumer(AsyncWebsocketConsumer):
    """One connection; its streams run side by side as tasks."""

    principal: Principal
    _is_refused = False

    async def connect(self) -> None:
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, Run] = {}
        request_id = id_of_headers(dict(self.scope["headers"]))
        current_request_id.set(request_id)
        # Channels' types say text; servers take bytes.
        await self.accept(headers=[(b"x-request-id", request_id.encode())])  # type: ignore[list-item]
        try:
            self._credential = _credential(self.scope)
            self.principal = await in_database(principal_of, self._credential)
            # Each event needs its own scope; who has neither has nothing to do here.
            if MODELS_READ not in self.principal.scopes:
                self.principal.require(INFERENCE)
        except Exception as error:
            self._is_refused = True
            known = as_inference_error(error)
            await self._send("error", {"stream_id": None, **error_body(known)})
            refused = CLOSE_FORBIDDEN if known.status == 403 else CLOSE_UNAUTHENTICATED
            await self.close(1011 if known.status >= 500 else refused)
            return

    async def disconnect(self, code: int) -> None:
        """Stop the runs that this connection started; a run that it only followed goes on."""
        for task in list(self._streams.values()):
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Act on one message; a bad one gets an error event."""
        if self._is_refused:
            return  # the client has not noticed yet
        try:
            await self._dispatch(text_data if text_data is not None else bytes_data or b"")
        except Exception as error:
            await self._send("error", {"stream_id": None, **error_body(as_inference_error(error))})

    async def _authenticate(self, scope: str) -> None:
        """Authenticate again: the key may have been revoked since the connection was made."""
        self.principal = await in_database(principal_of, self._credential)
        self.principal.require(scope)

    async def _dispatch(self, data: str | bytes) -> None:
        limit = inference_settings().max_body_bytes
        if len(data) > limit:
            raise PayloadTooLargeError(f"The message is larger than {limit} bytes.")
        message = decode_json(data, "message")
        event = message.get("event") if isinstance(message, dict) else None
        content = message.get("data", {}) if isinstance(message, dict) else {}
        match event:
            case "stream_chat":
                self._spawn(self._chat(content))
            case "stop_generation":
                await self._stop(parse(content, StopData))
            case "resume":
                self._spawn(self._resume(parse(content, ResumeData)))
            case "follow_download":
                self._spawn(self._follow(parse(content, FollowData)))
            case _:
                raise InvalidRequestError(
                    f"Unknown event {event!r}. Send stream_chat, stop_generation, resume or "
                    "follow_download.",
                    param="event",
                )

    def _spawn(self, coroutine: Any) -> None:
        if len(self._streams) >= MAX_STREAMS_PER_CONNECTION:
            coroutine.close()
            raise InvalidRequestError(
                f"This connection already has {len(self._streams)} streams. "
                "Wait for one to end, or open another connection."
            )
        task = asyncio.create_task(coroutine)
        name = str(id(task))
        self._streams[name] = task
        task.add_done_callback(lambda _: self._streams.pop(name, None))

    async def _chat(self, content: Any) -> None:
        request_id = content.get("request_id") if isinstance(content, dict) else None
        current_request_id.set(accepted_id(request_id) or current_request_id.get())
        try:
            fields = _chat_fields(content)
            body = parse(fields, ChatRequest)
            await self._authenticate(INFERENCE)
            handshake = dict(self.scope["headers"])
            begin_request("WS stream_chat", handshake.get(b"traceparent", b"").decode("latin-1"))
            order = await chat_order(runtime(), body)
            ignored = [*hints_in(fields), *order.ignored]
            report_ignored(self.principal, ignored)
            async with generate(order, self.principal) as run:
                await self._relay(run, request_id, ignored)
        except Exception as error:
            await self._fail(None, request_id, error)
        finally:
            end_request()

    async def _resume(self, data: ResumeData) -> None:
        try:
            await self._authenticate(INFERENCE)
            after = [data.index] if isinstance(data.index, int) else data.index or []
            async with resumed(self.principal, data.stream_id, after) as run:
                await self._relay(run, None, [])
        except Exception as error:
            await self._fail(data.stream_id, None, error)

    async def _follow(self, data: FollowData) -> None:
        try:
            await self._authenticate(MODELS_READ)
            async for content in progress_of(data.download_id):
                await self._send("download", content)
        except Exception as error:
            body = error_body(as_inference_error(error))
            await self._send("error", {"download_id": str(data.download_id), **body})

    async def _relay(self, run: Run, request_id: Any, ignored: list[str]) -> None:
        """Send the events of a run; the last may be its error."""
        run_id = run.header.id
        self._runs[run_id] = run
        try:
            await self._send_frames(run, request_id, ignored)
        except Exception as error:
            await self._fail(run_id, request_id, error)
        finally:
            self._runs.pop(run_id, None)

    async def _send_frames(self, run: Run, request_id: Any, ignored: list[str]) -> None:
        readers = readers_of(run.header) if run.header.call_syntax else None
        started, reason, choice = False, "", len(run.choices) - 1
        if run.is_over and (last := run.choices[choice].finished):
            reason = last.reason  # the client has all frames, and may have missed the end
        while not run.is_over:
            entry = await run.next(LOADING_POLL_SECONDS)
            if entry is None:
                fraction = None if started else await run.loading()
                if fraction is not None:
                    loading = {"stream_id": run.header.id, "request_id": request_id}
                    await self._send("loading", loading | {"fraction": fraction})
                continue
            choice, frame = entry
            delta, reason = _said(frame, readers[choice] if readers else None)
            is_new = run.is_new(choice)
            if is_new and isinstance(frame, Failed):
                raise failure_of(frame)
            if is_new and not started:
                started = True
                await self._send("stream_start", _start_of(run, request_id, ignored))
            if is_new and isinstance(frame, Phase):
                await self._send("stream_phase", _place_of(run, choice) | frame.event)
            if is_new and delta:
                content = {"token": delta.pop("content", "")}
                await self._send("stream_token", _place_of(run, choice) | content | delta)
        if reason:
            end = {"finish_reason": reason, "usage": usage_object(run.usage)}
            last = run.choices[choice].finished
            summary = last.summary if last else {}
            await self._send("stream_end", _place_of(run, choice) | end | summary)

    async def _stop(self, data: StopData) -> None:
        self.principal.require(INFERENCE)
        if data.stream_id is None:
            for run in list(self._runs.values()):
                await run.stop()
            return
        await (await find(self.principal, data.stream_id)).stop()

    async def _fail(self, stream_id: str | None, request_id: Any, error: Exception) -> None:
        known = as_inference_error(error)
        if stream_id is None and not was_accepted(error):
            runtime().ledger.refuse(known.code)
        body = error_body(known)
        await self._send("error", {"stream_id": stream_id, "request_id": request_id, **body})

    async def _send(self, event: str, data: dict[str, Any]) -> None:
        content = msgspec.json.encode({"event": event, "data": data})
        await self.send(text_data=content.decode())


def _place_of(run: Run, choice: int) -> dict[str, Any]:
    index = run.choices[choice].position
    return {"stream_id": run.header.id, "index": index, "choice": choice}


def _start_of(run: Run, request_id: Any, ignored: list[str]) -> dict[str, Any]:
    header = run.header
    start: dict[str, Any] = {
        "stream_id": header.id,
        "model": header.model,
        "version": header.version_key,
        "request_id": request_id,
    }
    if header.deprecation:
        start["deprecation"] = header.deprecation
    if run.cache.status:
        start["cache"] = run.cache.status
    if ignored:
        start["ignored"] = ignored
    return start


def _said(frame: Frame, reader: CallReader | None) -> tuple[dict[str, Any], str]:
    """The ``delta`` of a frame as in OpenAI's chunks, and the reason if the choice has ended."""
    if isinstance(frame, Delta):
        if reader is not None:
            return reader.take(frame), ""
        return {"content": frame.text} if frame.text else {}, ""
    if isinstance(frame, Finished):
        if reader is not None:
            delta = reader.close()
            called = reader.reason(frame.reason) == "tool_calls"
            return delta, "tool_calls" if called else frame.reason
        return {}, frame.reason
    return {}, ""


def _credential(scope: Any) -> str:
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
    ]
    credential = credential_of(dict(headers))
    tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    if credential is None and not tokens:
        raise AuthenticationError(
            "Give an API key or JWT as ?token=… or in the Authorization header.",
            code="missing_api_key",
        )
    return credential or tokens[0]  # type: ignore[index]


def _chat_fields(content: Any) -> dict[str, Any]:
    """The fields of a chat request in ``data``; ``prompt`` stands for one user message."""
    if not isinstance(content, dict):
        raise InvalidRequestError("'data' must be a JSON object.", param="data")
    fields = {name: value for name, value in content.items() if name != "request_id"}
    prompt = fields.pop("prompt", None)
    if prompt is not None:
        if "messages" in fields:
            raise InvalidRequestError("Give either 'prompt' or 'messages'.", param="prompt")
        fields["messages"] = [{"role": "user", "content": prompt}]
    if fields.setdefault("stream", True) is not True:
        raise InvalidRequestError("A WebSocket always streams.", param="stream")
    for name in ("logprobs", "stream_options"):
        if fields.get(name):
            raise InvalidRequestError(
                f"{name!r} has no effect on a WebSocket. Leave it out, or use "
                "POST /v1/chat/completions.",
                param=name,
                code="unsupported_parameter",
            )
    return fields
