"""The id by which a client, the log and the record of a request name it."""

import re
import uuid
from contextvars import ContextVar

current_request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; "" where there is none."""

_PRINTABLE = re.compile(r"[ -~]{1,128}")


def accepted_id(given: object) -> str:
    """``given`` if it is printable ASCII of at most 128 characters, else ""."""
    return given if isinstance(given, str) and _PRINTABLE.fullmatch(given) else ""


def id_of_headers(headers: dict[bytes, bytes]) -> str:
    """The client's ``X-Request-Id``, or a new id."""
    return accepted_id(headers.get(b"x-request-id", b"").decode("latin-1")) or uuid.uuid4().hex
