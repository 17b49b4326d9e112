"""A home of its own for a demonstration: the addresses of the databases are read at the start."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping

from django.conf import settings
from rich.console import Console

_VARIABLE = "DEMO_HOME"
_TAKEN = ("DATABASE_URL", "REDIS_URL", "INFERENCE_CONFIG", "INFERENCE_PRELOAD_MODELS")


def enter_own_home(environment: Mapping[str, str]) -> None:
    """Replace this process by the same program in a new home, unless it runs in one.

    Args:
        environment: variables for the program, such as settings of the service.
    """
    if os.environ.get(_VARIABLE) == str(settings.BRIGADE_HOME):
        return
    home = tempfile.mkdtemp(prefix="brigade-demo-")
    kept = {name: value for name, value in os.environ.items() if name not in _TAKEN}
    own = {
        "BRIGADE_HOME": home,
        _VARIABLE: home,
        "INFERENCE_MODELS_DIR": str(settings.INFERENCE.models_dir),
        "INFERENCE_PORT": str(_free_port()),
    }
    os.execve(  # noqa: S606 - the same program again
        sys.executable, [sys.executable, *sys.orig_argv[1:]], {**kept, **environment, **own}
    )


def leave_own_home(console: Console) -> None:
    """Delete the home, and keep the service's log beside it."""
    with contextlib.suppress(OSError):
        log_copy = f"{settings.BRIGADE_HOME}.log"
        shutil.copy(settings.BRIGADE_HOME / "up.log", log_copy)
        console.print(f"The log was kept: {log_copy}")
    shutil.rmtree(settings.BRIGADE_HOME, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
