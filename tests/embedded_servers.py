"""Pytest plugin (``-p tests.embedded_servers``): real servers, up before Django reads its settings.

They live in ``var/test`` or BRIGADE_TEST_HOME, away from the servers of ``manage.py up``. A
DATABASE_URL or REDIS_URL in the environment is used instead. Model files lie in
INFERENCE_MODELS_DIR, or in ``var/models`` of the checkout, which outlives a test run.
"""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers

_VAR = Path(__file__).resolve().parents[1] / "var"


# A wrapper, because pytest-django sets up Django in the first plain implementation.
@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Hold the servers for as long as the run lasts."""
    servers = EmbeddedServers(
        Path(os.environ.get("BRIGADE_TEST_HOME") or _VAR / "test"),
        postgres=not os.environ.get("DATABASE_URL"),
        valkey=not os.environ.get("REDIS_URL"),
    )
    try:
        servers.start()
    except EmbeddedServerError as error:
        raise pytest.UsageError(str(error)) from error
    early_config.add_cleanup(servers.stop)
    os.environ["BRIGADE_HOME"] = str(servers.home)
    os.environ["INFERENCE_MODELS_DIR"] = os.environ.get("INFERENCE_MODELS_DIR") or str(
        _VAR / "models"
    )
    os.environ["DATABASE_URL"] = os.environ.get("DATABASE_URL") or servers.database_url
    os.environ["REDIS_URL"] = os.environ.get("REDIS_URL") or servers.redis_url
    return (yield)
