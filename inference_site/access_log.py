"""The access log without the requests of the service to itself."""

import logging
from typing import Final

OWN_POLL: Final = "/health/ready?from=up"
"""``manage.py up`` asks this until the service is ready; questions of others stay in the log."""


def is_no_own_poll(record: logging.LogRecord) -> bool:
    """Whether a record of uvicorn's access log is of somebody else's request."""
    return not (isinstance(record.args, tuple) and OWN_POLL in record.args)
