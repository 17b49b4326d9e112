"""One service for all live tests; each leaves it ready."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.live.service import ROOT, LiveService


@pytest.fixture(scope="session")
def live_service(smollm2_path: Path, minilm_path: Path) -> Iterator[LiveService]:
    """The running service; at the end its ledger is exact, and Ctrl-C must leave nothing behind."""
    service = LiveService(
        smollm2_path.parent, INFERENCE_HEARTBEAT="0.2", INFERENCE_LEASE="3",
        INFERENCE_MAX_QUEUE_SIZE="200", INFERENCE_RUN_GRACE="3",
    )  # fmt: skip
    with service.running():
        yield service
        if not service.is_ready():
            return
        command = [sys.executable, "manage.py", "ledger_check", "--wait", "120"]
        checked = subprocess.run(
            command, cwd=ROOT, env=service.environment, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def service(live_service: LiveService) -> LiveService:
    """The service, ready."""
    live_service.wait_ready()
    return live_service


@pytest.fixture
def client(service: LiveService) -> OpenAI:
    """The official SDK, without its own retries."""
    return OpenAI(base_url=service.base_url + "/v1", api_key=service.api_key, max_retries=0)


@pytest.fixture
def async_client(service: LiveService) -> AsyncOpenAI:
    """The official async SDK."""
    return AsyncOpenAI(base_url=service.base_url + "/v1", api_key=service.api_key, max_retries=0)
