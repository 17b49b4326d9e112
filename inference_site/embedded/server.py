"""The common base of Postgres and Valkey: files, account, start and stop."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.account import Account, demotion, give_directory, service_account
from inference_site.embedded.files import open_log
from inference_site.embedded.urls import socket_directory

# Not the caller's environment: PGPORT, PGDATA and others would change what the programs do.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
# Processes of an earlier run end when their parent dies; after this time they are killed.
_LEFTOVER_GRACE_SECONDS = 1.5


class EmbeddedServer(ABC):
    """One server of a home.

    Only the watchdog calls ``launch``: its other thread waits in the kernel and holds no lock that
    a fork could copy.
    """

    name: ClassVar[str]
    process_name: ClassVar[str]
    death_signal: ClassVar[signal.Signals]
    # Sent in order, each with the seconds until the next; SIGKILL follows.
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.data_directory = self.home / self.name
        self.log_path = self.home / "logs" / f"{self.name}.log"
        self.sockets = socket_directory(self.home)
        run = self.home / "run"
        # Shared by the holders; the watchdog takes it exclusively before it stops the server.
        self.holders_path = run / f"{self.name}.holders.lock"
        # Held by the one watchdog of the server while it lives.
        self.watchdog_path = run / f"{self.name}.watchdog.lock"
        # Counts the starts of the server, so that holders notice a restart.
        self.starts_path = run / f"{self.name}.starts"

    @property
    @abstractmethod
    def binary(self) -> Path:
        """The server's program; raises ``EmbeddedServerError`` when it is not installed."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that serves ``data_directory`` on a Unix socket only."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server accepts requests on its socket now."""

    @abstractmethod
    def prepare_data(self) -> None:
        """Create the data directory on first use; remove stale lock files."""

    @cached_property
    def account(self) -> Account | None:
        return service_account(self.data_directory, self.binary)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server and do not wait until it answers."""
        if self.sockets.parent != self.home:
            passes = self.account is not None and self.account.capability is None
            give_directory(self.sockets.parent, None, 0o711 if passes else 0o700)
        give_directory(self.sockets, self.account)
        self._end_leftovers()
        self.prepare_data()
        with open_log(self.log_path) as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                preexec_fn=demotion(self.account, self.death_signal),
            )

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server, at last with SIGKILL; remove a socket directory outside the home."""
        for number, seconds in (*self.stop_signals, (signal.SIGKILL, 10.0)):
            if process.poll() is not None:
                break
            process.send_signal(number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        if self.sockets.parent != self.home and not any(self.sockets.iterdir()):
            self.sockets.rmdir()
            self.sockets.parent.rmdir()

    def read_starts(self) -> int:
        try:
            return int(self.starts_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def leftovers(self) -> list[int]:
        """List processes of an earlier run that still use the data directory (Linux only)."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                name = (entry / "comm").read_text().strip()
                if name == self.process_name and (entry / "cwd").readlink() == self.data_directory:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended, or belongs to another user
        return found

    def _end_leftovers(self) -> None:
        deadline = time.monotonic() + _LEFTOVER_GRACE_SECONDS
        while pids := self.leftovers():
            if time.monotonic() > deadline:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline + _LEFTOVER_GRACE_SECONDS:
                raise EmbeddedServerError(
                    f"processes {pids} of an earlier {self.name} in {self.data_directory} "
                    "cannot be ended: stop them by hand"
                )
            time.sleep(0.05)
