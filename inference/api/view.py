"""The base of all API views: async, authenticated, with bodies decoded by msgspec."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from adrf.views import APIView
from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from inference.api.cache_header import CACHE_HEADER, cache_options
from inference.api.ignored import HEADER, header_value, report_ignored
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import InvalidRequestError, PayloadTooLargeError
from inference.orders.hints import hints_in
from inference.orders.parsing import decode_json, parse
from inference.orders.requests import GenerationRequest, OpenAIRequest
from inference.principal import INFERENCE, Principal
from inference.tracing import begin_request

Body = TypeVar("Body", bound=msgspec.Struct)


class OneForm(BaseContentNegotiation):
    """A route answers in its one form, whatever ``Accept`` says.

    DRF's own negotiation would refuse ``text/event-stream``, which every browser's ``EventSource``
    sends, and take a format from the query.
    """

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class ApiView(APIView):
    """Authenticates in a database thread, then awaits the handler on the event loop.

    A caller needs ``required_scope``; for methods that change nothing ``reading_scope``, if set, is
    enough. The body is read after authentication, up to ``max_body_bytes`` (default: the setting).
    """

    required_scope: str = INFERENCE
    reading_scope: str | None = None
    max_body_bytes: int | None = None
    content_negotiation_class = OneForm

    async def async_dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """adrf's method, with the database work of ``initial`` on a kept connection."""
        self.args, self.kwargs = args, kwargs
        request = self.initialize_request(request, *args, **kwargs)
        self.request = request
        self.headers = self.default_response_headers
        response: Any
        try:
            await in_database(self.initial, request, *args, **kwargs)
            self._begin_trace(request)
            name = request.method.lower()
            # Any attribute could be named as a method otherwise.
            handler = getattr(self, name, None) if name in self.http_method_names else None
            if handler is None:
                raise MethodNotAllowed(request.method)
            # Not there under a server that has read it already.
            read_body = getattr(request._request, "read_body", None)
            if read_body is not None:
                limit = self.max_body_bytes or inference_settings().max_body_bytes
                request._request._body = await read_body(limit)
            response = handler(request, *args, **kwargs)
            if inspect.isawaitable(response):  # DRF's own handler of OPTIONS is not
                response = await response
        except Exception as error:
            response = self.handle_exception(error)
        self.response = self.finalize_response(request, response, *args, **kwargs)
        return self.response

    def _begin_trace(self, request: Any) -> None:
        """Begin the span of a request for inference; the handler ends it with the answer."""
        if self.required_scope == INFERENCE and request.method == "POST":
            route = request._request.resolver_match.route
            begin_request(f"POST /{route}", request.headers.get("traceparent", ""))

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        final = super().finalize_response(request, response, *args, **kwargs)
        ignored = getattr(request, "ignored", ())
        if ignored:
            final[HEADER] = header_value(ignored)
        return final


def note_ignored(request: Request, names: Sequence[str]) -> None:
    """Log parts of a request without effect, and name them in a header of the answer.

    Raises:
        InvalidRequestError: as ``report_ignored``.
    """
    report_ignored(principal_in(request), names)
    request.ignored = (*getattr(request, "ignored", ()), *names)  # type: ignore[attr-defined]


def principal_in(request: Request) -> Principal:
    principal: Principal = request.user  # type: ignore[assignment]
    return principal


def body_of(request: Request, kind: type[Body], max_body_bytes: int) -> Body:
    """The request's JSON body as ``kind``.

    Raises:
        InvalidRequestError: no JSON, unknown or unsupported fields, wrong types; says which.
        PayloadTooLargeError: larger than ``max_body_bytes``.
    """
    try:
        data = request._request.body
    except RequestDataTooBig:
        raise PayloadTooLargeError(
            f"The request body is larger than {max_body_bytes} bytes."
        ) from None
    raw = decode_json(data, "request body")
    if issubclass(kind, OpenAIRequest):
        note_ignored(request, hints_in(raw))
        text = request.headers.get(CACHE_HEADER)
        if text and not issubclass(kind, GenerationRequest):
            note_ignored(request, [CACHE_HEADER])
        elif text and isinstance(raw, dict):
            if "cache" in raw:
                raise InvalidRequestError(
                    f"Send either 'cache' or the header {CACHE_HEADER}.", param="cache"
                )
            raw["cache"] = cache_options(text)
    return parse(raw, kind)


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> HttpResponse:
    return HttpResponse(
        msgspec.json.encode(content),
        status=status,
        headers=headers,
        content_type="application/json",
    )
