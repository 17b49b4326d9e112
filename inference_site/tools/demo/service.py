"""The demonstrated service: ``manage.py up`` in the present BRIGADE_HOME."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

READY_SECONDS = 180.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.25


class DemoError(Exception):
    """The demonstration could not run; the text says why."""


@contextmanager
def running_service() -> Iterator[Path]:
    """Start the service, wait until it is ready, yield its log, and stop it at the end.

    Raises:
        DemoError: it ended, or was not ready in time.
    """
    log = Path(settings.BRIGADE_HOME) / "up.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=settings.BASE_DIR,
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_ready(process, log)
        yield log
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def base_url() -> str:
    return f"http://127.0.0.1:{settings.INFERENCE_PORT}"


def api_key() -> str:
    """Return the key of its first run."""
    content = json.loads((Path(settings.BRIGADE_HOME) / "first_run.json").read_text())
    return str(content["api_key"])


def _wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoError(f"The service did not become ready. Its log is {log}.")
        time.sleep(_POLL_SECONDS)


def _is_ready() -> bool:
    try:
        url = f"{base_url()}/health/ready"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
