"""Filters of log records; each returns whether the record stays."""

import logging
from http import HTTPStatus
from typing import Final

from inference.request_id import current_request_id, current_run_id, current_traceparent

# The URL that ``manage.py up`` polls until the service is ready.
OWN_POLL: Final = "/health/ready?from=up"


def is_not_own_poll(record: logging.LogRecord) -> bool:
    return not (isinstance(record.args, tuple) and OWN_POLL in record.args)


def is_not_503(record: logging.LogRecord) -> bool:
    return getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE


def add_request_id(record: logging.LogRecord) -> bool:
    request_id = current_request_id.get()
    record.request_id = f"[{request_id}] " if request_id else ""
    return True


def add_ids(record: logging.LogRecord) -> bool:
    """Add the ids of the request; a host works for many at once and names the run itself."""
    record.request_id = current_request_id.get() or None
    record.run_id = getattr(record, "run_id", "") or current_run_id.get() or None
    record.trace_id = current_traceparent.get()[3:35] or None
    return True


def hide_query(record: logging.LogRecord) -> bool:
    """Cut the query, which may contain a key, from the logged URL."""
    if isinstance(record.args, tuple):
        record.args = tuple(
            value.partition("?")[0] if isinstance(value, str) else value for value in record.args
        )
    return True
