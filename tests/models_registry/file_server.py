"""A web server for tests that serves one file, and misbehaves as it is told."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ETAG = '"v1"'


@dataclass
class Reply:
    """How to answer one request; the defaults are a server that behaves.

    Attributes:
        status: Instead of 200 or 206; other than these there is no body.
        data: Instead of the server's file.
        etag: "" for none.
        headers: Further ones, and others instead of the usual.
        cut_after: Bytes of the body after which the connection is dropped.
        promised_bytes: The file's size as the headers tell it.
        ignores_range: Sends the whole file to a request for a part.
        ignores_if_range: Sends the range although the file is another than the client knows.
        content_range: Instead of the true one.
        chunked: Without a Content-Length.
        holds: Sends nothing after `cut_after` bytes, and keeps the connection.
    """

    status: int | None = None
    data: bytes | None = None
    etag: str = ETAG
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    promised_bytes: int | None = None
    ignores_range: bool = False
    ignores_if_range: bool = False
    content_range: str | None = None
    chunked: bool = False
    holds: bool = False


@dataclass
class Request:
    """A request of a client; names of headers in lower case."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        """The header of that name."""
        return self.headers.get("range")


class FileServer:
    """Answers GET with `data`; the next replies may be set, the last of them stays."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.url = ""
        self.requests: list[Request] = []
        self._replies: deque[Reply] = deque([Reply()])
        self._release = threading.Event()

    def reply(self, *replies: Reply) -> None:
        """Answer so, one after the other; the last answers all that follow."""
        self._replies = deque(replies)

    def release(self) -> None:
        """Let go of the connections that are held."""
        self._release.set()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Request(handler.path, headers))
        reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        data = self.data if reply.data is None else reply.data
        start = self._start(headers, reply)
        fields = {"Accept-Ranges": "bytes"}
        if reply.etag:
            fields["ETag"] = reply.etag
        if reply.status not in (None, 200, 206):
            body, status = b"", reply.status
        elif start is None:
            body, status = data, 200
        else:
            body, status = data[start:], 206
            total = reply.promised_bytes or len(data)
            fields["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        promised = reply.promised_bytes or len(data)
        length = promised - (start or 0) if status in (200, 206) else 0
        fields["Transfer-Encoding" if reply.chunked else "Content-Length"] = (
            "chunked" if reply.chunked else str(length)
        )
        if reply.content_range is not None:
            fields["Content-Range"] = reply.content_range
        handler.send_response(reply.status or status)
        for name, value in (fields | reply.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        self._send(handler, body, reply)

    def _start(self, headers: dict[str, str], reply: Reply) -> int | None:
        wanted = headers.get("range")
        if wanted is None or reply.ignores_range:
            return None
        condition = headers.get("if-range")
        if condition not in (None, reply.etag) and not reply.ignores_if_range:
            return None
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, reply: Reply) -> None:
        sent = body if reply.cut_after is None else body[: reply.cut_after]
        if reply.chunked:
            sent = b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b""
            if reply.cut_after is None:
                sent += b"0\r\n\r\n"
        handler.wfile.write(sent)
        handler.wfile.flush()
        if reply.holds:
            self._release.wait(60)
        if reply.cut_after is not None or len(body) != (reply.promised_bytes or len(body)):
            handler.close_connection = True


@contextmanager
def file_server(data: bytes, host: str = "127.0.0.1") -> Iterator[FileServer]:
    """Run a server for `data` on a free port of this machine."""
    server = FileServer(data)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    listener = ThreadingHTTPServer((host, 0), Handler)
    server.url = f"http://{host}:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.release()
        listener.shutdown()
        listener.server_close()
        thread.join()
