"""Checks before the start: the port is free, no other supervisor runs this home."""

import errno
import os
import socket
from pathlib import Path

from inference_site.embedded.files import FileLock


class PreflightError(Exception):
    """The service cannot be started; the text says what to do."""


def check_port(host: str, port: int) -> None:
    """Raise ``PreflightError`` when the web process could not listen there."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                                   flags=socket.AI_PASSIVE)  # fmt: skip
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = (
                f"Port {port} on {host} is taken by another program. "
                "Stop that one, or set INFERENCE_PORT to a free port."
            )
        elif error.errno == errno.EACCES:
            reason = f"Port {port} is reserved for root. Set INFERENCE_PORT to 1024 or more."
        else:
            reason = (
                f"Cannot listen on {host}: {error.strerror}. "
                "Set INFERENCE_HOST to an address of this machine."
            )
        raise PreflightError(reason) from error


def claim_home(home: Path) -> FileLock:
    """Make this process the only supervisor of ``home`` until the lock is closed."""
    lock = FileLock(home / "run" / "up.lock")
    if not lock.try_exclusive():
        holder = lock.read() or "a process that has just started"
        lock.close()
        raise PreflightError(
            f"{home} is already being run by {holder}. Stop that one (Ctrl-C in its terminal), "
            "or set BRIGADE_HOME and INFERENCE_PORT for a second service."
        )
    lock.write(f"process {os.getpid()}")
    return lock
