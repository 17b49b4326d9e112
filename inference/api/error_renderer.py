"""Every error as one body, for DRF, SSE and WebSocket."""

import logging
import math
from http import HTTPStatus
from typing import Any

import django.db
import msgspec
import redis
from django.contrib import admin
from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import is_valid_path
from rest_framework import exceptions
from rest_framework.response import Response

from inference.errors import (
    PROVIDER,
    InferenceError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    RetriableError,
    TemporaryResourceError,
)
from inference.principal import INFERENCE
from inference.request_id import current_request_id
from inference.runs.generate import was_accepted
from inference.runs.runtime import runtime

logger = logging.getLogger(__name__)

# Parts after "/v1".
_LONGEST_ROUTE = 3

# Other database errors are faults of the service: trying again would not help.
_POSTGRES_AWAY = (django.db.OperationalError, django.db.InterfaceError)
_REDIS_AWAY = (redis.ConnectionError, redis.TimeoutError)


def error_body(error: InferenceError) -> dict[str, Any]:
    """``{"error": {…}}`` with OpenAI's four keys first; ``details`` has the id of the request."""
    details = dict(error.details)
    request_id = current_request_id.get()
    if request_id:
        details["request_id"] = request_id
    if isinstance(error, RetriableError):
        details["retry_after_ms"] = error.retry_after_ms
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
            "provider": PROVIDER,
            "details": details,
        }
    }


def as_inference_error(error: Exception) -> InferenceError:
    """The error to show for an exception; an unexpected one is logged and becomes a 500."""
    if isinstance(error, InferenceError):
        return error
    if isinstance(error, (*_POSTGRES_AWAY, *_REDIS_AWAY)):
        logger.warning("a store is out of reach: %s", error)
        name = "Postgres" if isinstance(error, _POSTGRES_AWAY) else "Redis"
        return TemporaryResourceError(
            f"The service cannot reach {name} at the moment. Try again shortly.",
            retry_after_ms=2000,
        )
    if isinstance(error, RequestDataTooBig):
        return PayloadTooLargeError("The request body is too large for this service.")
    if isinstance(error, Http404):
        return NotFoundError("There is nothing at this address.")
    if isinstance(error, exceptions.APIException):
        return _from_drf(error)
    logger.error("unforeseen error", exc_info=error)
    return InternalError("The service made a mistake. Its log has the details.")


def _from_drf(error: exceptions.APIException) -> InferenceError:
    mapped: InferenceError = InvalidRequestError(str(error.detail), code=error.default_code)
    mapped.status = error.status_code  # type: ignore[misc]
    return mapped


def error_headers(error: InferenceError) -> dict[str, str]:
    headers = {}
    if isinstance(error, RetriableError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="brigade"'
    return headers


def handle_exception(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's exception handler; counts requests for inference that were refused."""
    known = as_inference_error(error)
    is_inference = (
        context["view"].required_scope == INFERENCE and context["request"].method == "POST"
    )
    if is_inference and not was_accepted(error):
        runtime().ledger.refuse(known.code)
    return Response(error_body(known), status=known.status, headers=error_headers(known))


def error_response(error: InferenceError) -> HttpResponse:
    """An error as a response outside DRF."""
    return HttpResponse(
        msgspec.json.encode(error_body(error)),
        status=error.status,
        headers=error_headers(error),
        content_type="application/json",
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001
    """Django's handler for addresses that no route has: a page in the admin, an error elsewhere."""
    if request.path_info.startswith("/admin/"):
        context = admin.site.each_context(request) | {"title": "Page not found"}
        return render(request, "inference/not_found.html", context, status=404)
    meant = _route_meant(request.path_info)
    advice = f"Use {meant}: the base URL ends in /v1." if meant else "See docs/api.md."
    return error_response(
        NotFoundError(f"There is no route {request.method} {request.path}. {advice}")
    )


def _route_meant(path: str) -> str:
    """The route under ``/v1`` that a path ends in, as with a wrong base URL; "" for none."""
    parts = path.strip("/").split("/")[-_LONGEST_ROUTE:]
    for start in range(len(parts)):
        candidate = "/".join(["/v1", *parts[start:]])
        if is_valid_path(candidate):
            return candidate
    return ""


def server_error(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Django's handler for failures outside views."""
    return error_response(InternalError("The service made a mistake. Its log has the details."))
