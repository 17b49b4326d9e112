"""What Postgres and Valkey have in common: files, account, launch, leftovers of a dead run."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from inference_site.embedded.account import Account, demotion, give_directory, service_account
from inference_site.embedded.errors import EmbeddedServerError
from inference_site.embedded.logs import open_log
from inference_site.embedded.urls import socket_directory

# Nothing of the caller's: PGPORT, PGDATA and the like would change what the programs do.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_LEFTOVER_GRACE_SECONDS = 1.5


class EmbeddedServer(ABC):
    """One server of a home.

    ``launch`` and what it calls are for the keeper: its only other thread sleeps in the kernel and
    holds nothing that a fork could copy in a bad state.
    """

    name: ClassVar[str]
    process_name: ClassVar[str]
    death_signal: ClassVar[signal.Signals]
    # Sent in order, each with the seconds it is given to work; SIGKILL follows.
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, home: Path) -> None:
        """Name the server's files below ``home``; touches nothing."""
        self.home = home.resolve()
        self.data_directory = self.home / self.name
        self.log_path = self.home / "logs" / f"{self.name}.log"
        self.sockets = socket_directory(self.home)

    @property
    @abstractmethod
    def binary(self) -> Path:
        """The server's program; EmbeddedServerError says what to install when it is missing."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that serves ``data_directory`` in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes requests now, asked through its socket."""

    @abstractmethod
    def prepare_data(self) -> None:
        """Make the data directory on first use and clear a dead run's lock files."""

    @cached_property
    def account(self) -> Account | None:
        """Who the server runs as; None means the user's own account."""
        return service_account(self.data_directory, self.binary)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server; it may take a while to answer.

        Raises:
            EmbeddedServerError: the data cannot be made or reached, or the program is missing.
        """
        self._make_socket_directory()
        self._end_leftovers()
        self.prepare_data()
        with open_log(self.log_path) as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                preexec_fn=demotion(self.account, self.death_signal),
            )

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop the server, ever less gently, and remove a socket directory outside the home."""
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

    def run_tool(
        self, command: list[str], given: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of the server's own tools to its end, as the server's account."""
        return subprocess.run(
            command,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            check=False,
            preexec_fn=demotion(self.account, signal.SIGKILL),
        )

    def leftovers(self) -> list[int]:
        """Processes of an earlier run that still work in the data directory (Linux only)."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                name = (entry / "comm").read_text().strip()
                if name == self.process_name and (entry / "cwd").readlink() == self.data_directory:
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended, or is another user's
        return found

    def _end_leftovers(self) -> None:
        """Wait for an earlier run to end, as it does by itself when its parent dies, or kill it."""
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

    def _make_socket_directory(self) -> None:
        if self.sockets.parent != self.home:
            passes = self.account is not None and self.account.capability is None
            give_directory(self.sockets.parent, None, 0o711 if passes else 0o700)
        give_directory(self.sockets, self.account)
