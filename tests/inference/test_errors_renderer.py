"""Every class of the error tree, as clients see it."""

import json
from http import HTTPStatus
from typing import Any

import django.db
import pytest
import redis
from django.core.exceptions import RequestDataTooBig
from django.http import Http404
from rest_framework import exceptions

from inference import errors
from inference.api.error_renderer import (
    as_inference_error,
    error_body,
    error_headers,
    error_response,
)
from inference.errors import (
    AuthenticationError,
    BodyTimeoutError,
    CompressionFailedError,
    ConflictError,
    ContextBudgetExceededError,
    DoesNotFitError,
    GrammarFailedError,
    HeadersTooLargeError,
    HostLostError,
    InferenceError,
    InternalError,
    InvalidRequestError,
    ModelBusyError,
    ModelFileMissingError,
    ModelLoadingError,
    ModelNotFoundError,
    ModelUnavailableError,
    NotFoundError,
    OrchestrationFailedError,
    PayloadTooLargeError,
    PermissionDeniedError,
    PoisonRequestError,
    QueueTimeoutError,
    RetriableError,
    TemporaryResourceError,
    TooManyAttemptsError,
    error_from_code,
)

EXPECTED = {
    ModelBusyError: (503, "server_error", "model_busy"),
    ModelLoadingError: (503, "server_error", "model_loading"),
    ModelUnavailableError: (503, "server_error", "model_unavailable"),
    QueueTimeoutError: (503, "server_error", "queue_timeout"),
    HostLostError: (503, "server_error", "host_lost"),
    TooManyAttemptsError: (429, "rate_limit_error", "too_many_attempts"),
    TemporaryResourceError: (503, "server_error", "temporarily_unavailable"),
    InvalidRequestError: (400, "invalid_request_error", "invalid_value"),
    ContextBudgetExceededError: (400, "invalid_request_error", "context_length_exceeded"),
    CompressionFailedError: (400, "invalid_request_error", "compression_failed"),
    GrammarFailedError: (422, "invalid_request_error", "grammar_failed"),
    DoesNotFitError: (422, "invalid_request_error", "no_room"),
    ConflictError: (409, "invalid_request_error", "conflict"),
    PayloadTooLargeError: (413, "invalid_request_error", "request_too_large"),
    HeadersTooLargeError: (431, "invalid_request_error", "headers_too_large"),
    BodyTimeoutError: (408, "invalid_request_error", "body_timeout"),
    AuthenticationError: (401, "authentication_error", "invalid_api_key"),
    PermissionDeniedError: (403, "permission_error", "insufficient_scope"),
    NotFoundError: (404, "invalid_request_error", "not_found"),
    ModelNotFoundError: (404, "invalid_request_error", "model_not_found"),
    ModelFileMissingError: (404, "invalid_request_error", "model_file_missing"),
    PoisonRequestError: (500, "server_error", "poison_request"),
    OrchestrationFailedError: (500, "server_error", "orchestration_failed"),
    InternalError: (500, "server_error", "internal_error"),
}
LEAVES = [pytest.param(kind, *facts, id=kind.__name__) for kind, facts in EXPECTED.items()]


def test_every_error_of_the_tree_is_expected_here():
    def leaves(kind: type[InferenceError]) -> set[type[InferenceError]]:
        below = set().union(*(leaves(sub) for sub in kind.__subclasses__()))
        inner = {InferenceError, RetriableError, errors.NonRetriableError}
        return below if kind in inner else below | {kind}

    assert leaves(InferenceError) == set(EXPECTED)


@pytest.mark.parametrize(("kind", "status", "type_", "code"), LEAVES)
def test_error_is_rendered_with_openais_keys_first(
    kind: type[InferenceError], status: int, type_: str, code: str
):
    response = error_response(kind("What happened.", param="field", details={"n": 1}))
    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    error = json.loads(response.content)["error"]
    assert list(error) == ["message", "type", "param", "code", "provider", "details"]
    assert (error["message"], error["param"]) == ("What happened.", "field")
    assert (error["type"], error["code"]) == (type_, code)
    assert error["provider"] == "brigade"
    assert error["details"]["n"] == 1


@pytest.mark.parametrize(("kind", "status", "type_", "code"), LEAVES)
def test_error_says_when_to_retry_only_where_that_helps(
    kind: type[InferenceError], status: int, type_: str, code: str
):
    error = kind("x")
    retriable = status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    assert error.retriable == retriable
    assert ("Retry-After" in error_headers(error)) == retriable
    assert ("retry_after_ms" in error_body(error)["error"]["details"]) == retriable


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1, "1"), (1000, "1"), (1001, "2")])
def test_retry_after_is_rounded_up_to_whole_seconds(milliseconds: int, seconds: str):
    error = ModelBusyError("x", retry_after_ms=milliseconds)
    assert error_headers(error)["Retry-After"] == seconds
    assert error_body(error)["error"]["details"]["retry_after_ms"] == milliseconds


def test_missing_credential_is_challenged():
    assert error_headers(AuthenticationError("x"))["WWW-Authenticate"].startswith("Bearer ")
    assert "WWW-Authenticate" not in error_headers(PermissionDeniedError("x"))


def test_body_does_not_change_the_errors_own_details():
    error = ModelBusyError("x", details={"a": 1})
    error_body(error)
    assert error.details == {"a": 1}


@pytest.mark.parametrize(
    ("foreign", "kind", "status"),
    [
        (django.db.OperationalError("gone"), TemporaryResourceError, 503),
        (django.db.InterfaceError("closed"), TemporaryResourceError, 503),
        (redis.ConnectionError("gone"), TemporaryResourceError, 503),
        (redis.TimeoutError("slow"), TemporaryResourceError, 503),
        (django.db.DataError("NUL"), InternalError, 500),
        (django.db.IntegrityError("twice"), InternalError, 500),
        (redis.ResponseError("syntax"), InternalError, 500),
        (RequestDataTooBig("big"), PayloadTooLargeError, 413),
        (Http404("no"), NotFoundError, 404),
        (exceptions.MethodNotAllowed("PUT"), InvalidRequestError, 405),
        (exceptions.UnsupportedMediaType("x/y"), InvalidRequestError, 415),
        (exceptions.ParseError("bad"), InvalidRequestError, 400),
        (ValueError("secret of the inside"), InternalError, 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_foreign_exceptions_find_their_place(
    foreign: Exception, kind: type[InferenceError], status: int
):
    error = as_inference_error(foreign)
    assert type(error) is kind
    assert error.status == status


def test_status_of_one_foreign_exception_does_not_stick():
    as_inference_error(exceptions.MethodNotAllowed("PUT"))
    assert InvalidRequestError("x").status == 400


def test_unforeseen_error_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture):
    error = as_inference_error(ValueError("secret of the inside"))
    assert "secret" not in str(error_body(error))
    assert "secret of the inside" in caplog.text


@pytest.mark.parametrize(
    ("foreign", "name"),
    [(django.db.OperationalError("x"), "Postgres"), (redis.ConnectionError("x"), "Redis")],
)
def test_store_that_is_away_is_named(foreign: Exception, name: str):
    assert name in as_inference_error(foreign).message


@pytest.mark.parametrize(
    "code",
    [
        "model_busy",
        "model_loading",
        "model_unavailable",
        "queue_timeout",
        "host_lost",
        "temporarily_unavailable",
        "invalid_value",
        "context_length_exceeded",
        "poison_request",
        "internal_error",
    ],
)
def test_code_of_a_failed_frame_becomes_its_error(code: str):
    error: Any = error_from_code(code, "It went wrong.")
    assert (error.code, error.message) == (code, "It went wrong.")


def test_a_failed_frame_may_say_when_to_try_again():
    error = error_from_code("model_unavailable", "It rests.", 12.3456)
    assert error_headers(error)["Retry-After"] == "13"
    assert error_headers(error_from_code("model_unavailable", "x"))["Retry-After"] == "10"
    assert "Retry-After" not in error_headers(error_from_code("poison_request", "x", 5.0))


def test_unknown_code_of_a_failed_frame_is_a_fault_of_the_service():
    assert type(error_from_code("from the future", "x")) is InternalError
