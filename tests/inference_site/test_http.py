"""Requests over real connections: limits, refusals, and the framing of answers."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from inference.runs.runtime import Runtime
from inference_site import exchange, handler, http_protocol
from inference_site.asgi import application
from inference_site.handler import MAX_HEADER_BYTES
from inference_site.http_protocol import HttpProtocol
from tests.stack import (  # noqa: F401 - fixtures
    Api,
    FakeModel,
    api,
    configure,
    database,
    make_api,
    model,
    redis_client,
    service,
    shared_tokenizer,
    version,
)

MEBIBYTE = 1 << 20


class Connection:
    """A client that sends exactly the given bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of the next answer whose length is known."""
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return int(first.split()[1]), {name.lower(): text for name, text in headers.items()}

    async def rest(self) -> bytes:
        """All until the server closes."""
        return await self.reader.read()


@asynccontextmanager
async def connected(app: Any = application) -> AsyncIterator[Callable[[], Any]]:
    """A server on a free port; yields a function that connects to it."""
    config = uvicorn.Config(app, http=HttpProtocol, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    state = server.server_state
    listening = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = listening.sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return Connection(reader, writer)

    try:
        async with asyncio.timeout(30):
            yield connect
    finally:
        for writer in writers:
            writer.close()
        listening.close()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def request(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:  # noqa: F811
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *headers, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def error_of(body: bytes) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(body)["error"]
    assert list(error)[:4] == ["message", "type", "param", "code"]
    return error


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a request may go to disk."""

    def refuse(*_args: Any) -> None:
        raise AssertionError("a body went to disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/chat/completions", 401),
        ("/api/models/download", 401),
        ("/nothing", 404),
        ("/health", 200),
        ("/v1/models/some/x/y", 404),
    ],
)
async def test_body_without_a_valid_key_is_not_awaited(database: None, path: str, status: int):  # noqa: F811
    async with connected() as connect:
        for framing in ("Content-Length: 1000000000", "Transfer-Encoding: chunked"):
            client = await connect()
            await client.send(request("POST", path, framing))
            found, headers, _ = await client.answer()
            assert (found, headers["connection"]) == (status, "close")


async def test_key_without_the_scope_is_refused_before_the_body(database: None):  # noqa: F811
    nobody = await asyncio.to_thread(make_api, "nobody", [])
    async with connected() as connect:
        client = await connect()
        key = f"x-api-key: {nobody.secret}"
        await client.send(request("POST", "/v1/chat/completions", key, "Content-Length: 10"))
        assert (await client.answer())[0] == 403


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/auth/token", "/admin/login/"])
async def test_body_that_is_announced_too_large_is_413_at_once(
    api: Api,  # noqa: F811
    service: Runtime,  # noqa: F811
    path: str,
):
    async with connected() as connect:
        client = await connect()
        headers = (f"x-api-key: {api.secret}", "Content-Length: 99999999", "Expect: 100-continue")
        await client.send(request("POST", path, *headers))
        # Not "100 Continue".
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (413, "close")
        assert error_of(body)["code"] == "request_too_large"
        assert await client.rest() == b""


async def test_body_in_chunks_is_counted(
    api: Api,  # noqa: F811
    service: Runtime,  # noqa: F811
    configure: Callable[..., None],  # noqa: F811
):
    configure(max_body_bytes=MEBIBYTE)
    async with connected() as connect:
        for path in ("/v1/chat/completions", "/admin/login/"):
            client = await connect()
            known = (f"x-api-key: {api.secret}", "Cookie: sessionid=x")
            await client.send(request("POST", path, *known, "Transfer-Encoding: chunked"))
            # A client that reads only when all is sent.
            await client.send(*[chunk(b" " * 64 * 1024)] * 100, b"0\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert str(MEBIBYTE) in error_of(body)["message"]
            assert await client.rest() == b""


async def test_form_without_a_session_is_small(database: None):  # noqa: F811
    async with connected() as connect:
        for cookie, expected in (("a=b", 413), ("sessionid=x", 403)):
            client = await connect()
            headers = (f"Cookie: {cookie}", "Content-Length: 70000")
            await client.send(request("POST", "/admin/login/", *headers), b" " * 70_000)
            assert (await client.answer())[0] == expected


async def test_form_that_is_not_sent_is_408(database: None, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setattr(handler, "PAGE_SECONDS", 0.1)
    monkeypatch.setattr(exchange, "LINGER_SECONDS", 0.1)
    async with connected() as connect:
        client = await connect()
        await client.send(request("POST", "/admin/login/", "Content-Length: 10"), b" " * 9)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert error_of(body)["code"] == "body_timeout"
        assert await client.rest() == b""


async def test_body_without_an_end_is_left_after_a_while(
    database: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(exchange, "LINGER_SECONDS", 0.1)
    async with connected() as connect:
        client = await connect()
        await client.send(request("POST", "/v1/completions", "Transfer-Encoding: chunked"))
        assert (await client.answer())[0] == 401
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof():
                await client.send(chunk(b" " * 64 * 1024))
                await asyncio.sleep(0)


async def test_connection_goes_on_after_a_request_that_was_read(
    api: Api,  # noqa: F811
    service: Runtime,  # noqa: F811
):
    async with connected() as connect:
        client = await connect()
        key = f"x-api-key: {api.secret}"
        for _ in range(2):
            framing = "Transfer-Encoding: chunked"
            await client.send(request("POST", "/v1/chat/completions", key, framing))
            await client.send(chunk(b"{"), b"0\r\n\r\n")
            status, headers, body = await client.answer()
            assert (status, error_of(body)["code"]) == (400, "invalid_json")
            assert "connection" not in headers
            await client.send(request("GET", "/v1/models"))
            assert (await client.answer())[0] == 401


@pytest.mark.parametrize(
    "filler",
    [
        ["x: " + "a" * MAX_HEADER_BYTES],
        [f"x{number}: {'a' * 100}" for number in range(MAX_HEADER_BYTES // 100)],
    ],
)
async def test_headers_beyond_the_limit_are_431(database: None, filler: list[str]):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", "/health", *filler))
        status, headers, body = await client.answer()
        assert status == 431
        error = error_of(body)
        assert (error["code"], str(MAX_HEADER_BYTES) in error["message"]) == (
            "headers_too_large",
            True,
        )
        assert error["details"]["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "filler", [["Cookie: " + "a" * 9000], [f"x{number}: a" for number in range(200)]]
)
async def test_headers_that_websockets_would_drop_are_431(filler: list[str]):
    upgrade = (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", "/ws", *upgrade, *filler))
        assert (await client.answer())[0] == 431


async def test_address_counts_as_header(database: None):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        half = "a" * (MAX_HEADER_BYTES // 2)
        await client.send(request("GET", f"/health?{half}", f"x: {half}"))
        assert (await client.answer())[0] == 431


async def test_headers_within_the_limit_are_read(database: None):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", "/health", "x: " + "a" * (MAX_HEADER_BYTES - 100)))
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("beginning", [b"GET /", request("GET", "/").rstrip() + b"\r\nx: "])
async def test_head_without_an_end_is_431(beginning: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.1)
    async with connected() as connect:
        client = await connect()
        await client.send(beginning, *[b"a" * 1024] * 128)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (431, "close")
        assert error_of(body)["details"]["request_id"] == headers["x-request-id"]
        assert await client.rest() == b""


async def test_invalid_http_is_400_in_json():
    async with connected() as connect:
        client = await connect()
        await client.send(b"A" * 200_000)
        status, headers, body = await client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert error_of(body)["code"] == "invalid_http"


@pytest.mark.parametrize(
    "more",
    [
        [b"0\r\n", *[b"x: a\r\n" * 1024] * 32],
        [b"1;", *[b"x" * 1024] * 128],
    ],
)
async def test_framing_of_a_body_without_an_end_ends_the_connection(more: list[bytes]):
    left = asyncio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with connected(app) as connect:
        client = await connect()
        await client.send(request("POST", "/", "Transfer-Encoding: chunked"))
        with contextlib.suppress(ConnectionError):
            await client.send(*more)
        await left.wait()


async def test_answer_under_way_is_not_mixed_with_a_refusal():
    asked, refused = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        asked.set()
        await receive()
        refused.set()

    async with connected(app) as connect:
        client = await connect()
        await client.send(request("GET", "/"))
        await asked.wait()
        await client.send(b"nonsense\r\n\r\n")
        await refused.wait()
        assert (await client.rest()).endswith(b"\r\n\r\n4\r\nhalf\r\n")


async def test_stream_to_a_client_of_http_1_0_has_no_chunks(model: FakeModel, api: Api):  # noqa: F811
    model.say("hello")
    body = json.dumps(
        {
            "model": model.slug,
            "stream": True,
            "messages": [{"role": "user", "content": "x"}],
        }
    ).encode()
    headers = (f"x-api-key: {api.secret}", f"Content-Length: {len(body)}", "Connection: keep-alive")
    async with connected() as connect:
        client = await connect()
        head = request("POST", "/v1/chat/completions", *headers, version="1.0")
        await client.send(head, body)
        status, headers = await client.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        events = await client.rest()
        assert events.startswith(b"id: ")
        assert events.endswith(b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/nothing", "/static/nothing"])
async def test_plain_answer_has_its_length(database: None, path: str, http_version: str):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", path, version=http_version))
        _, headers, body = await client.answer()
        assert json.loads(body)
        assert "transfer-encoding" not in headers
        assert (headers.get("connection") == "close") == (http_version == "1.0")


async def test_head_request_has_no_body(api: Api, service: Runtime):  # noqa: F811
    async with connected() as connect:
        for http_version in ("1.1", "1.0"):
            client = await connect()
            key = f"x-api-key: {api.secret}"
            await client.send(request("HEAD", "/v1/models", key, version=http_version))
            assert (await client.head())[0] == 200
            client.writer.write_eof()
            assert await client.rest() == b""


@pytest.mark.filterwarnings("error")
async def test_static_file_comes_without_a_warning(database: None):  # noqa: F811
    async with connected() as connect:
        client = await connect()
        await client.send(request("GET", "/static/metrics/ledger.css"))
        status, headers, body = await client.answer()
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/css")
        assert body.startswith(b"/* Pages of reports")
        unchanged = f"If-Modified-Since: {headers['last-modified']}"
        await client.send(request("GET", "/static/metrics/ledger.css", unchanged))
        assert (await client.head())[0] == 304
