"""``python -m inference_site.embedded [--home PATH] -- COMMAND…``: run a command with the servers.

The command finds DATABASE_URL, REDIS_URL and BRIGADE_HOME in its environment. A URL that is already
set stays, and its server is not started. The exit status is the command's.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers

_CHECK_SECONDS = 1.0
_DEFAULT_HOME = Path(__file__).resolve().parents[2] / "var"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m inference_site.embedded")
    home_default = Path(os.environ.get("BRIGADE_HOME") or _DEFAULT_HOME)
    parser.add_argument("--home", type=Path, default=home_default, help="default: %(default)s")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("the command to run is missing after --")
    servers = EmbeddedServers.unless_configured(options.home)
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
            status = child.wait(_CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            _restart_dead(servers)
            continue
        return status if status >= 0 else 128 - status


def _restart_dead(servers: EmbeddedServers) -> None:
    try:
        restarted = servers.ensure(timeout_seconds=_CHECK_SECONDS)
    except EmbeddedServerError as error:
        # The command may still have work that needs no server; the next check is in a second.
        sys.stderr.write(f"warning: {error}\n")
        return
    for name in restarted:
        sys.stderr.write(f"warning: {name} had died and was started again\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
