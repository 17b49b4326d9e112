"""The ids by which a client, the log, the record and the trace of a request name it."""

import re
import uuid
from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; "" where there is none."""

current_run_id: ContextVar[str] = ContextVar("run_id", default="")
"""The id of the run that this task began or follows."""

current_traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""The span of the request in the form of W3C; "" without tracing."""

_PRINTABLE = re.compile(r"[ -~]{1,128}")


def accepted_id(given: object) -> str:
    """``given`` if it is printable ASCII of at most 128 characters, else ""."""
    return given if isinstance(given, str) and _PRINTABLE.fullmatch(given) else ""


def id_of_headers(headers: dict[bytes, bytes]) -> str:
    """The client's ``X-Request-Id``, or a new id."""
    return accepted_id(headers.get(b"x-request-id", b"").decode("latin-1")) or uuid.uuid4().hex
