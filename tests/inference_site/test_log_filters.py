"""The access log without queries and without polls of ``up``."""

import logging
from collections.abc import Iterator

import pytest
import uvicorn
from django.core.management import call_command

from inference_site import settings
from inference_site.log_filters import OWN_POLL, hide_query


def _record(path: str) -> logging.LogRecord:
    return logging.LogRecord(
        "uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d',
        ("::1:9", "GET", path, "1.1", 200), None,
    )  # fmt: skip


def test_access_log_does_not_have_the_query():
    record = _record("/v1/streams/a?token=secret")
    assert hide_query(record)
    assert record.getMessage() == '::1:9 - "GET /v1/streams/a HTTP/1.1" 200'
    assert "no_query" in settings.LOGGING["loggers"]["uvicorn.access"]["filters"]


@pytest.fixture
def access_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """uvicorn's, as the command leaves it."""
    logger = logging.getLogger("uvicorn.access")
    before = list(logger.filters)
    monkeypatch.setattr(uvicorn, "run", lambda *_arguments, **_options: None)
    call_command("web")
    yield logger
    logger.filters[:] = before


def test_own_polls_are_left_out_of_the_access_log(access_log: logging.Logger):
    assert not access_log.filter(_record(OWN_POLL))
    assert access_log.filter(_record("/health/ready"))
    assert access_log.filter(_record("/v1/models?from=up"))
