"""A small real HTTP server whose answers a test writes, step by step, as an async generator."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Status:
    """First step of an answer that is one JSON body and no stream."""

    code: int
    body: Any


@dataclass(frozen=True)
class Drop:
    """Step that cuts the connection without ending the answer."""


Script = Callable[[dict[str, Any]], AsyncIterator["bytes | Status | Drop"]]


@dataclass
class ScriptedServer:
    """Records its requests; ``left`` is set when a client disconnects during an answer."""

    script: Script
    base_url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    most_running: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Plays the script for one request."""
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._play(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise
        finally:
            self.running -= 1

    async def _play(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async for step in self.script(body):
            if isinstance(step, Status):
                return web.json_response(step.body, status=step.code)
            if not response.prepared:
                await response.prepare(request)
            if isinstance(step, Drop):
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(step)
        return response


def sse(payload: Any) -> bytes:
    """A payload as one SSE event."""
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def text(content: str) -> bytes:
    """A chat chunk with text."""
    return sse({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]})


def ending(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> bytes:
    """Finish chunk, usage chunk and end mark."""
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
    finish = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
    return finish + sse({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"


async def three_words(body: dict[str, Any]) -> AsyncIterator[bytes]:
    """A script: an answer of three tokens to anything."""
    yield text("one ")
    yield text("two ")
    yield text("three") + ending(10, 3, 4)


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[ScriptedServer]:
    """Serves a script on a free loopback port, in the running event loop."""
    server = ScriptedServer(script)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.answer)
    app.router.add_post("/v1/completions", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_thread(script: Script) -> Iterator[ScriptedServer]:
    """Serves a script from a thread of its own, for callers that run their own event loop."""
    started: list[ScriptedServer] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with serving(script) as server:
            started.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive()
        loop.close()
