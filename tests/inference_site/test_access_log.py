"""What the log says of a request."""

import logging

from inference_site import settings


def test_access_log_does_not_have_the_query():
    record = logging.LogRecord(
        "uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d',
        ("::1:9", "GET", "/v1/streams/a?token=secret", "1.1", 200), None,
    )  # fmt: skip
    assert settings._hide_query(record)
    assert record.getMessage() == '::1:9 - "GET /v1/streams/a HTTP/1.1" 200'
    assert "no_query" in settings.LOGGING["loggers"]["uvicorn.access"]["filters"]
