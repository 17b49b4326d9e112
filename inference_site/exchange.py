"""One request and its answer in ASGI: the body is bounded, the answer has a request id."""

import asyncio
import math
from contextlib import suppress
from typing import Any

from inference.errors import BodyTimeoutError, PayloadTooLargeError

# A client may send the rest of a refused body for this long. After an immediate close it would not
# receive the answer.
LINGER_SECONDS = 10.0


class Exchange:
    """One request: reads the body up to a limit, and sends the answer.

    ``receive`` obeys ``max_body_bytes``, and ``body_seconds`` for the whole body; ``body`` has a
    limit of its own.
    """

    def __init__(
        self,
        scope: Any,
        receive: Any,
        send: Any,
        request_id: str,
        max_body_bytes: int,
        body_seconds: float,
    ) -> None:
        headers = dict(scope["headers"])
        self._receive, self._send, self._request_id = receive, send, request_id
        self._limit: float = max_body_bytes
        self._deadline: float | None = asyncio.get_running_loop().time() + body_seconds
        self._announced = int(headers.get(b"content-length", 0))
        self._received = 0
        self._awaits_continue = b"expect" in headers
        self._has_left = False
        self._closes = False
        self._is_read = asyncio.Event()
        self._has_body = bool(self._announced) or b"transfer-encoding" in headers

    async def receive(self) -> Any:
        """Return the next message; raise ``PayloadTooLargeError`` or ``BodyTimeoutError``."""
        self._check(self._announced)
        self._awaits_continue = False
        try:
            async with asyncio.timeout_at(None if self._is_read.is_set() else self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeoutError("The request body took too long. Send it faster.") from None
        self._has_left = message["type"] == "http.disconnect"
        if not message.get("more_body"):
            self._is_read.set()
        self._received += len(message.get("body", b""))
        self._check(self._received)
        return message

    async def body(self, max_bytes: int) -> bytes:
        """Return the whole body, at most ``max_bytes``.

        Never returns when the client disconnects meanwhile: ``left`` does then.
        """
        self._limit, self._deadline = max_bytes, None
        data = bytearray()
        while not self._is_read.is_set():
            data += (await self.receive()).get("body", b"")
        if self._has_left:
            await asyncio.Event().wait()
        return bytes(data)

    async def left(self) -> None:
        """Return when the client has disconnected; noticed once the body is read."""
        await self._is_read.wait()
        while not self._has_left:
            await self.receive()

    async def send(self, message: Any) -> None:
        """Send a message; close the connection after it when the body was not read."""
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (b"x-request-id", self._request_id.encode())]
            self._closes = self._has_body and not self._is_read.is_set()
            if self._closes:
                headers.append((b"connection", b"close"))
            message = message | {"headers": headers}
        elif self._closes and not self._awaits_continue and not message.get("more_body"):
            await self._send(message | {"more_body": True})
            await self._drain()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _drain(self) -> None:
        self._limit, self._deadline = math.inf, None
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._is_read.is_set():
                    await self.receive()

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise PayloadTooLargeError(
                f"The request body is larger than the limit of {self._limit} bytes. Send less."
            )
