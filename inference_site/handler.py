"""Django's ASGI handler, without the costs that only pages need on the API."""

import asyncio
import io
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http.response import HttpResponseBase
from django.urls import set_script_prefix

from inference.api.error_renderer import error_response
from inference.errors import BodyTimeoutError, HeadersTooLargeError, PayloadTooLargeError
from inference.request_id import current_request_id, id_of_headers
from inference.tracing import end_request
from inference_site.exchange import Exchange
from inference_site.middleware import is_api_path

# Also checked in ``http_protocol``, after each read; one read may exceed it.
MAX_HEADER_BYTES = 64 << 10
ANONYMOUS_FORM_BYTES = 64 << 10
# The time for a whole form, which is kept in memory until then.
PAGE_SECONDS = 30.0
CANCEL_AGAIN_SECONDS = 1.0


class Handler(ASGIHandler):
    """Handles API requests on the event loop only.

    Django's handler starts a thread for each, to close database connections; the API's own database
    threads do that themselves. API views read the body later, with ``request.read_body``.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request; cancel the view when the client disconnects."""
        headers = dict(scope["headers"])
        request_id = id_of_headers(headers)
        current_request_id.set(request_id)
        form_bytes = min(settings.FILE_UPLOAD_MAX_MEMORY_SIZE, settings.INFERENCE.max_body_bytes)
        if settings.SESSION_COOKIE_NAME.encode() not in headers.get(b"cookie", b""):
            form_bytes = ANONYMOUS_FORM_BYTES
        exchange = Exchange(scope, receive, send, request_id, form_bytes, PAGE_SECONDS)
        try:
            _check_headers(scope)
            if is_api_path(scope["path"]):
                await self._answer_api(scope, exchange)
            else:
                await super().__call__(scope, exchange.receive, exchange.send)
        except (BodyTimeoutError, HeadersTooLargeError, PayloadTooLargeError) as error:
            await self.send_response(error_response(error), exchange.send)

    async def _answer_api(self, scope: Any, exchange: Exchange) -> None:
        set_script_prefix(get_script_prefix(scope))
        request, refusal = self.create_request(scope, io.BytesIO())
        if request is not None:
            request.read_body = exchange.body  # type: ignore[attr-defined]
        leaving = asyncio.create_task(exchange.left())
        answering = asyncio.create_task(self._answer(request, refusal, exchange.send))
        try:
            await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
        finally:
            unfinished = {leaving, answering}
            while unfinished:
                # Again and again: a library may swallow a cancellation, and then the answer would
                # go on without a reader.
                for task in unfinished:
                    task.cancel()
                _, unfinished = await asyncio.wait(unfinished, timeout=CANCEL_AGAIN_SECONDS)
            outcomes = await asyncio.gather(leaving, answering, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, RequestAborted):
                raise outcome

    async def _answer(
        self, request: ASGIRequest | None, refusal: HttpResponseBase | None, send: Any
    ) -> None:
        status: int | None = None
        try:
            response = refusal or await self.run_get_response(cast("ASGIRequest", request))
            status = response.status_code
            try:
                await self.send_response(response, send)
            finally:
                response.close()
        finally:
            end_request(status)

    async def send_response(self, response: Any, send: Any) -> None:
        # Unlike Django's, with the length where it is known.
        if not response.streaming:
            response.headers.setdefault("Content-Length", str(len(response.content)))
        await super().send_response(response, send)


def _check_headers(scope: Any) -> None:
    length = len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))
    length += sum(len(name) + len(value) + 4 for name, value in scope["headers"])  # ": ", CRLF
    if length > MAX_HEADER_BYTES:
        raise headers_too_large(MAX_HEADER_BYTES)


def headers_too_large(max_bytes: int) -> HeadersTooLargeError:
    return HeadersTooLargeError(
        f"The address and headers of the request are longer than {max_bytes} bytes. Send fewer or "
        "shorter headers; cookies of other sites on this machine may be among them."
    )
