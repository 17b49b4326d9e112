"""``python -m inference_site.embedded [--home PATH] -- COMMAND…``: a command beside the servers.

The command finds DATABASE_URL, REDIS_URL and BRIGADE_HOME in its environment. A URL that is set
already is left alone and its server is not started. The exit status is the command's.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from inference_site.embedded.errors import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers

_LOOK_SECONDS = 1.0
_DEFAULT_HOME = Path(__file__).resolve().parents[2] / "var"


def main(arguments: list[str]) -> int:
    """Run the command; 2 when the servers cannot be started, 127 when the command is missing."""
    parser = argparse.ArgumentParser(prog="python -m inference_site.embedded")
    home_default = Path(os.environ.get("BRIGADE_HOME") or _DEFAULT_HOME)
    parser.add_argument("--home", type=Path, default=home_default, help="default: %(default)s")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("say which command to run, after --")
    servers = EmbeddedServers(
        options.home,
        postgres=not os.environ.get("DATABASE_URL"),
        valkey=not os.environ.get("REDIS_URL"),
    )
    environment = {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        **{name: value for name, value in os.environ.items() if value},
        "BRIGADE_HOME": str(servers.home),
    }
    try:
        with servers:
            return _run(command, environment, servers)
    except EmbeddedServerError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _run(command: list[str], environment: dict[str, str], servers: EmbeddedServers) -> int:
    try:
        child = subprocess.Popen(command, env=environment)
    except OSError as error:
        sys.stderr.write(f"error: cannot run {command[0]}: {error.strerror}\n")
        return 127

    def pass_on(number: int, _frame: FrameType | None) -> None:
        # A Ctrl-C reaches the child from the terminal by itself.
        if number == signal.SIGTERM and child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        try:
            status = child.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            _look_after(servers)
            continue
        return status if status >= 0 else 128 - status


def _look_after(servers: EmbeddedServers) -> None:
    try:
        restarted = servers.ensure(timeout_seconds=_LOOK_SECONDS)
    except EmbeddedServerError as error:
        # The command may still have work that needs no server; it is asked for again in a second.
        sys.stderr.write(f"warning: {error}\n")
        return
    for name in restarted:
        sys.stderr.write(f"warning: {name} had died and was started again\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
