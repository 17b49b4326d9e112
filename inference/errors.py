"""The error tree of the service.

    InferenceError
    ├── RetriableError            the same request may succeed later; carries ``retry_after_ms``
    │   ├── ModelBusyError            503  model_busy: the queue of the model is full
    │   ├── ModelLoadingError         503  model_loading
    │   ├── ModelUnavailableError     503  model_unavailable: it cannot be loaded at the moment
    │   ├── QueueTimeoutError         503  queue_timeout: not started before its deadline
    │   ├── HostLostError             503  host_lost: the process that ran it died
    │   ├── TooManyAttemptsError      429  too_many_attempts, at logging in
    │   └── TemporaryResourceError    503  temporarily_unavailable: Redis, Postgres, memory
    └── NonRetriableError         the request must change first
        ├── InvalidRequestError       400  invalid_value, unknown_parameter, …
        │   ├── ContextBudgetExceededError  400  context_length_exceeded
        │   ├── CompressionFailedError  400  compression_failed: a text stays too long for a model
        │   ├── PayloadTooLargeError  413
        │   ├── BodyTimeoutError      408  body_timeout
        │   ├── DoesNotFitError       422  no_room: no machine is large enough for the model
        │   └── GrammarFailedError    422  grammar_failed: an answer cannot follow its grammar
        ├── AuthenticationError       401
        ├── PermissionDeniedError     403
        ├── NotFoundError             404
        │   ├── ModelNotFoundError    404  model_not_found
        │   └── ModelFileMissingError 404  model_file_missing: the file must be fetched first
        ├── PoisonRequestError        500  poison_request: it killed its host twice
        ├── OrchestrationFailedError  500  orchestration_failed: several models found no answer
        └── InternalError             500

One renderer (``inference.api.error_renderer``) turns any of them into the body that OpenAI's SDK
reads: ``{"error": {"message", "type", "param", "code", "provider", "details"}}``.
"""

import math
from typing import Any, ClassVar

PROVIDER = "brigade"


class InferenceError(Exception):
    """Base of everything the service tells a client about a failed request.

    Args:
        message: one plain sentence for the client that says what to do.
        param: the request field at fault, as a path such as ``messages[0].content``.
        code: overrides the class's machine-readable code.
        details: further facts, JSON-ready.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = "internal_error"
    retriable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.default_code
        self.details = details or {}


class RetriableError(InferenceError):
    """A passing condition; ``retry_after_ms`` says when to try again."""

    status = 503
    retriable = True
    usual_retry_after_ms: ClassVar[int] = 1000

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int | None = None,
        param: str | None = None,
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, details=details)
        self.retry_after_ms = retry_after_ms or self.usual_retry_after_ms


class ModelBusyError(RetriableError):
    """The model's queue is full."""

    default_code = "model_busy"


class ModelLoadingError(RetriableError):
    """The model is known but not in memory yet."""

    default_code = "model_loading"


class ModelUnavailableError(RetriableError):
    """The model cannot be brought into memory: no room for it, or it fails to load."""

    default_code = "model_unavailable"
    usual_retry_after_ms = 10_000


class QueueTimeoutError(RetriableError):
    """The generation was not started before its deadline."""

    default_code = "queue_timeout"


class HostLostError(RetriableError):
    """The process that ran the generation died and it could not be continued."""

    default_code = "host_lost"


class TooManyAttemptsError(RetriableError):
    """More tries than a person makes."""

    status = 429
    type = "rate_limit_error"
    default_code = "too_many_attempts"


class TemporaryResourceError(RetriableError):
    """Redis, Postgres or memory is unavailable for the moment."""

    default_code = "temporarily_unavailable"


class NonRetriableError(InferenceError):
    """The request has to change before it can succeed."""


class InvalidRequestError(NonRetriableError):
    """The request is malformed or asks for what is not supported."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class ContextBudgetExceededError(InvalidRequestError):
    """Prompt and requested completion do not fit the model's context."""

    default_code = "context_length_exceeded"


class CompressionFailedError(InvalidRequestError):
    """A text between two models cannot be shortened to what the next one takes."""

    default_code = "compression_failed"


class ConflictError(InvalidRequestError):
    """The name is taken by another object."""

    status = 409
    default_code = "conflict"


class PayloadTooLargeError(InvalidRequestError):
    """The request body is larger than the service accepts."""

    status = 413
    default_code = "request_too_large"


class HeadersTooLargeError(InvalidRequestError):
    """Address and headers of a request together are longer than the service accepts."""

    status = 431
    default_code = "headers_too_large"


class BodyTimeoutError(InvalidRequestError):
    """The request body did not come in time."""

    status = 408
    default_code = "body_timeout"


class GrammarFailedError(InvalidRequestError):
    """An answer had begun, but its grammar led nowhere or grew too complex on the way.

    A client's error and no 5xx: nothing is wrong with the service, and sending it again would most
    often end the same.
    """

    status = 422
    default_code = "grammar_failed"


class DoesNotFitError(InvalidRequestError):
    """No machine can ever hold the model: asking again helps nobody, and no client should."""

    status = 422
    default_code = "no_room"


class AuthenticationError(NonRetriableError):
    """No usable API key or token was given."""

    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class PermissionDeniedError(NonRetriableError):
    """The key or token lacks the scope that the route needs."""

    status = 403
    type = "permission_error"
    default_code = "insufficient_scope"


class NotFoundError(NonRetriableError):
    """No such route, stream or object, or it belongs to somebody else."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFoundError(NotFoundError):
    """The request names a model that is not registered."""

    default_code = "model_not_found"


class ModelFileMissingError(NotFoundError):
    """The model is registered, but its file is not here: trying again would not bring it."""

    default_code = "model_file_missing"


class PoisonRequestError(NonRetriableError):
    """The generation killed the process that ran it, twice."""

    default_code = "poison_request"


class OrchestrationFailedError(NonRetriableError):
    """Several models were asked, and no answer came of it."""

    default_code = "orchestration_failed"


class InternalError(NonRetriableError):
    """A fault of the service; its log has the traceback."""


_WIRE_CLASSES: dict[str, type[InferenceError]] = {
    cls.default_code: cls
    for cls in (
        ModelBusyError,
        ModelLoadingError,
        ModelUnavailableError,
        QueueTimeoutError,
        HostLostError,
        TemporaryResourceError,
        InvalidRequestError,
        ContextBudgetExceededError,
        CompressionFailedError,
        GrammarFailedError,
        PoisonRequestError,
        OrchestrationFailedError,
        InternalError,
    )
}


def error_from_code(
    code: str, message: str, retry_after_seconds: float | None = None
) -> InferenceError:
    """The error that a ``Failed`` frame stands for.

    Args:
        code: a ``default_code`` of the tree; an unknown one becomes an ``InternalError``.
        message: the text for the client.
        retry_after_seconds: when a retriable one may go well; None for what is usual.

    Returns:
        An instance, ready to be raised or rendered.
    """
    error = _WIRE_CLASSES.get(code, InternalError)(message)
    if retry_after_seconds is not None and isinstance(error, RetriableError):
        error.retry_after_ms = math.ceil(retry_after_seconds * 1000)
    return error
