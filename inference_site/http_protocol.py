"""uvicorn's HTTP protocol with bounded heads, and answers that HTTP/1.0 clients can read."""

import uuid
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from inference.api.error_renderer import error_body
from inference.errors import InferenceError, InvalidRequestError
from inference_site.exchange import LINGER_SECONDS
from inference_site.handler import MAX_HEADER_BYTES, headers_too_large


class HttpProtocol(HttpToolsProtocol):
    """One connection; bounds what httptools (headers) and uvicorn (trailers) would buffer."""

    # Bytes since the end of a head, of a message or of a piece of a body.
    _unfinished_bytes = 0
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unfinished_bytes += len(data)
        super().data_received(data)
        if self._unfinished_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(headers_too_large(MAX_HEADER_BYTES))

    def on_headers_complete(self) -> None:
        self._unfinished_bytes = 0
        super().on_headers_complete()
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.scope is self.scope and cycle.scope["http_version"] != "1.1":
            # uvicorn has no option for the class. The task that uses it has not started yet.
            cycle.__class__ = UnframedCycle
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished_bytes = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Refuse a head that ``websockets`` would drop without an answer."""
        lines = [len(name) + len(value) + 4 for name, value in self.headers]
        if max(len(self.url), *lines) > MAX_LINE_LENGTH or len(lines) > MAX_NUM_HEADERS:
            self._refuse(headers_too_large(MAX_LINE_LENGTH))
        else:
            super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequestError("This is no valid HTTP request.", code="invalid_http"))

    def _refuse(self, error: InferenceError) -> None:
        """Send the error unless an answer has begun, stop reading, and close."""
        if self._is_refused:
            return
        self._is_refused = True
        self._unset_keepalive_if_required()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        error.details["request_id"] = request_id
        content = msgspec.json.encode(error_body(error))
        head = (
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
            f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[error.status] + head.encode() + content)
        # After an immediate close, a client that still sends would not receive the answer.
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


class UnframedCycle(RequestResponseCycle):
    """An answer to an HTTP/1.0 client: the end of the connection ends a body without a length."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if not any(name.lower() == b"content-length" for name, _ in message["headers"]):
                self.chunked_encoding = False
        else:
            # uvicorn counts down from this to the end of the answer.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
