"""API requests are handled on the event loop alone; pages as Django does it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from inference_site.handler import Handler


class Client:
    """One request, and a client that disconnects on command."""

    def __init__(self, path: str) -> None:
        self.scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        self.sent: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"question", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Answering(Handler):
    """A handler with one answer to everything."""

    def __init__(self, response: HttpResponseBase | Exception) -> None:
        super().__init__()
        self.response = response
        self.asked = b""

    async def run_get_response(self, request: Any) -> Any:
        """The answer."""
        self.asked = await request.read_body(1000)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response


async def ask(handler: Handler, client: Client) -> None:
    async with asyncio.timeout(10):
        await handler(client.scope, client.receive, client.send)


async def test_api_request_is_answered_without_a_thread(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args: Any) -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    response = HttpResponse(b"answer")
    handler, client = Answering(response), Client("/v1/models")
    await ask(handler, client)
    assert handler.asked == b"question"
    assert client.body == b"answer"
    assert response.closed


async def test_client_that_leaves_ends_the_stream_at_once():
    ended = asyncio.Event()
    client = Client("/v1/chat/completions")

    async def events() -> Any:
        try:
            yield b"first"
            client.left.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    response = StreamingHttpResponse(events())
    await ask(Answering(response), client)
    assert client.body == b"first"
    assert ended.is_set()
    assert response.closed


async def test_failure_outside_the_views_reaches_the_server():
    with pytest.raises(RuntimeError, match="broken"):
        await ask(Answering(RuntimeError("broken")), Client("/v1/models"))


async def test_page_is_handled_as_django_does(monkeypatch: pytest.MonkeyPatch):
    handled = []

    async def handle(_self: Any, scope: Any, _receive: Any, _send: Any) -> None:
        handled.append(scope["path"])

    monkeypatch.setattr(ASGIHandler, "handle", handle)
    for path in ("/admin/", "/v1/models"):
        await ask(Answering(HttpResponse()), Client(path))
    assert handled == ["/admin/"]
