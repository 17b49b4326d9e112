"""Sends one request to an OpenAI-compatible server and observes the answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from inference_site.tools.bench import wire
from inference_site.tools.bench.load import Endpoint
from inference_site.tools.bench.observation import Arrival, Failure, Observation
from inference_site.tools.bench.target import Target

CONNECT_SECONDS = 10.0
_PATHS: dict[str, str] = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request; None leaves a value to the server."""

    messages: list[dict[str, str]]
    max_tokens: int | None
    temperature: float | None
    endpoint: Endpoint = "chat"
    stream: bool = True
    priority: int | None = None


class _StreamError(Exception):
    """An invalid answer; carries the failure to record."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(kind, message)


def open_session(timeout_seconds: float) -> aiohttp.ClientSession:
    """Open a session without a limit of connections, so that the server's limits are measured.

    Every request has its own connection, as different users have. Some servers close a kept
    connection at the moment of reuse, which would count as a failure.

    Args:
        timeout_seconds: the longest duration of a request.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity"},
    )


class CompletionClient:
    """Sends requests to one target over a shared session.

    Cancelling a call closes its connection, which stops the generation at the server.

    Args:
        session: from ``open_session``.
        target: the server.
        clock: monotonic seconds, the same clock as the observation's start.
        on_event: called with each event of a run of several models, and with its summary.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        clock: Callable[[], float] = time.perf_counter,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._on_event = on_event
        self._session = session
        self._target = target
        self._clock = clock
        # Only generations are measured, of this service or of a peer.
        self._headers = {"Content-Type": "application/json", "x-brigade-cache": "no-store"}
        if target.api_key:
            self._headers["Authorization"] = f"Bearer {target.api_key}"

    async def complete(
        self,
        request: CompletionRequest,
        observation: Observation,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        """Sends a request and fills in the observation; failures are recorded, not raised.

        Args:
            request: what to ask.
            observation: fresh, with its start set.
            on_text: called with each piece of text as it arrives.
        """
        observation.streamed = request.stream
        try:
            await self._exchange(request, observation, on_text)
        except _StreamError as error:
            observation.failure = error.failure
        except TimeoutError:
            observation.failure = Failure("timeout", "no complete answer within the time allowed")
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            observation.failure = Failure("connect", f"{self._target.base_url}: {reason}")
        except aiohttp.ClientError as error:
            observation.failure = Failure("disconnected", str(error) or type(error).__name__)
        except msgspec.DecodeError as error:
            observation.failure = Failure("bad_frame", str(error))
        finally:
            observation.finished_seconds = self._clock()

    async def _exchange(
        self,
        request: CompletionRequest,
        observation: Observation,
        on_text: Callable[[str], None] | None,
    ) -> None:
        body = wire.request_body(
            endpoint=request.endpoint,
            model=self._target.model,
            messages=request.messages,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            stream=request.stream,
            priority=request.priority if self._target.sends_priority else None,
        )
        url = self._target.url(_PATHS[request.endpoint])
        async with self._session.post(url, data=body, headers=self._headers) as response:
            if response.status != 200:
                raise _http_error(response.status, await response.read())
            if not request.stream:
                _take_answer(observation, await response.read(), on_text)
                return
            await self._read_stream(response, observation, on_text)

    async def _read_stream(
        self,
        response: aiohttp.ClientResponse,
        observation: Observation,
        on_text: Callable[[str], None] | None,
    ) -> None:
        splitter = wire.EventSplitter()
        pieces: list[str] = []
        done = False
        try:
            async for data in response.content.iter_any():
                now = self._clock()
                payloads = splitter.feed(data)
                if payloads and payloads[-1] == wire.DONE:
                    payloads.pop()
                    done = True
                _take_frames(observation, payloads, now, pieces, on_text, self._on_event)
        finally:
            observation.text = "".join(pieces)
        if not done and observation.finish_reason is None:
            raise _StreamError("cut_off", "the stream ended before the answer did")


def _take_frames(
    observation: Observation,
    payloads: list[bytes],
    now_seconds: float,
    pieces: list[str],
    on_text: Callable[[str], None] | None,
    on_event: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Add the frames of one read to the observation."""
    frames = characters = 0
    for payload in payloads:
        frame = wire.decode_frame(payload)
        if frame.error is not None:
            code, message = wire.error_code_and_message(frame.error)
            raise _StreamError(f"stream_error {code}".strip(), message)
        if frame.usage is not None:
            observation.usage = frame.usage
        if frame.orchestration is not None and on_event is not None:
            on_event(frame.orchestration)
        for choice in frame.choices:
            observation.finish_reason = choice.finish_reason or observation.finish_reason
            length = len(choice.content) + len(choice.reasoning)
            if not length:
                continue
            frames += 1
            characters += length
            if choice.content:
                pieces.append(choice.content)
                if on_text is not None:
                    on_text(choice.content)
    if frames:
        observation.arrivals.append(Arrival(now_seconds, frames, characters))


def _take_answer(
    observation: Observation, body: bytes, on_text: Callable[[str], None] | None
) -> None:
    """Add an answer that was not streamed."""
    frame = wire.decode_frame(body)
    if frame.error is not None:
        code, message = wire.error_code_and_message(frame.error)
        raise _StreamError(f"error {code}".strip(), message)
    if not frame.choices:
        raise _StreamError("bad_frame", "the answer has no choices")
    observation.usage = frame.usage
    observation.finish_reason = frame.choices[0].finish_reason
    observation.text = frame.choices[0].content
    if on_text is not None:
        on_text(observation.text)


def _http_error(status: int, body: bytes) -> _StreamError:
    """Return the failure for an HTTP error, with the server's message where it has one."""
    code, message = "", body[:300].decode(errors="replace").strip()
    try:
        error = wire.decode_frame(body).error
    except msgspec.DecodeError:
        error = None
    if error is not None:
        code, message = wire.error_code_and_message(error)
    return _StreamError(f"http_{status} {code}".strip(), message)
