"""The access log without queries and without polls of ``up``."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import uvicorn
from django.core.management import call_command

from inference.messages import item_ids_of, run_id_of
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


def test_json_line_has_the_ids_of_request_run_and_trace():
    program = (
        "import django, logging\n"
        "django.setup()\n"
        "from inference.request_id import *\n"
        "current_request_id.set('mine'), current_run_id.set('chatcmpl-1')\n"
        "current_traceparent.set('00-' + 'a' * 32 + '-' + 'b' * 16 + '-01')\n"
        "logging.getLogger('x').warning('said %s', 'hello')\n"
        "logging.getLogger('x').warning('host', extra={'run_id': 'chatcmpl-2'})\n"
    )
    first, second = map(json.loads, _logged(program, INFERENCE_LOG_FORMAT="json").splitlines())
    assert first.pop("time").startswith("20")
    assert first == {
        "level": "WARNING", "logger": "x", "message": "said hello",
        "request_id": "mine", "run_id": "chatcmpl-1", "trace_id": "a" * 32,
    }  # fmt: skip
    assert second["run_id"] == "chatcmpl-2"


def test_unknown_log_format_is_refused():
    said = _logged("import django; django.setup()", INFERENCE_LOG_FORMAT="xml")
    assert "INFERENCE_LOG_FORMAT='xml'" in said


def _logged(program: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "inference_site.settings", **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return ended.stderr


@pytest.mark.parametrize("attempt", [0, 1, 12])
def test_run_of_a_generation_is_read_from_its_id(attempt: int):
    assert {run_id_of(item) for item in item_ids_of("chatcmpl-0a1b", attempt, 12)} == {
        "chatcmpl-0a1b"
    }
