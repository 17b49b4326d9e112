"""Holding the embedded servers of a home: the entry point for every process that needs them."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.files import FileLock, last_lines, open_log
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.urls import embedded_urls
from inference_site.embedded.watchdog import SERVERS

logger = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.02
_START_SECONDS = 90.0
_STOP_SECONDS = 20.0


class ServerHold:
    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._holders = FileLock(server.holders_path)
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def take(self) -> None:
        """Join the holders, after a stop that is under way, and ensure that a watchdog runs."""
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._holders.try_shared():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self.server.name} of {self.server.home} is being stopped and does not end"
                )
            time.sleep(_POLL_SECONDS)
        if not self.server.answers():
            self._ensure_watchdog()

    def wait(self, timeout_seconds: float = _START_SECONDS) -> bool:
        """Wait until the server answers; start a watchdog when there is none.

        Returns whether the server was started since the last call.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.server.answers():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self.server.name} did not answer within {timeout_seconds:g} s; "
                    f"the last lines of its log:\n{last_lines(self.server.log_path)}"
                )
            self._ensure_watchdog()
            time.sleep(_POLL_SECONDS)
        before, self._starts = self._starts, self.server.read_starts()
        return before != self._starts

    def needs_check(self) -> bool:
        """Whether the server was started since the last ``wait``, or has no watchdog."""
        with FileLock(self.server.watchdog_path) as lock:
            return lock.try_exclusive() or self.server.read_starts() != self._starts

    def release(self) -> None:
        """Leave the holders; the watchdog stops the server after the last one."""
        self._holders.release()

    def wait_for_stop(self) -> None:
        """Wait until the watchdog has ended; return at once when others hold the server."""
        deadline = time.monotonic() + _STOP_SECONDS
        with FileLock(self.server.watchdog_path) as lock:
            while not (ended := lock.try_exclusive()) and not self._others_hold():
                if time.monotonic() > deadline:
                    logger.warning("%s is still stopping: %s", self.server.name, lock.read())
                    break
                time.sleep(_POLL_SECONDS)
        self._holders.close()
        if self._watchdog is not None and ended:
            self._watchdog.communicate()  # reaps the process

    def _others_hold(self) -> bool:
        # Shared fails while the watchdog has the lock to stop; exclusive, while others hold.
        others = self._holders.try_shared() and not self._holders.try_exclusive()
        self._holders.release()
        return others

    def _ensure_watchdog(self) -> None:
        if self._watchdog is not None:
            status = self._watchdog.poll()
            if status is None:
                return
            output = self._watchdog.communicate()[0].decode(errors="replace")
            self._watchdog = None
            if status > 0:
                raise EmbeddedServerError(output or last_lines(self.server.log_path))
        with FileLock(self.server.watchdog_path) as lock:
            if not lock.try_exclusive():
                return
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        with open_log(self.server.log_path) as log:
            self._watchdog = subprocess.Popen(
                [sys.executable, "-m", "inference_site.embedded.watchdog", self.server.name,
                 str(self.server.home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,
            )  # fmt: skip


class EmbeddedServers:
    """The Postgres and Valkey of a home, held from ``start`` to ``stop`` together with others."""

    @classmethod
    def unless_configured(cls, home: Path) -> Self:
        """Leave out a server whose URL is set in the environment."""
        return cls(home, not os.environ.get("DATABASE_URL"), not os.environ.get("REDIS_URL"))

    def __init__(self, home: Path, postgres: bool = True, valkey: bool = True) -> None:
        self.home = home.resolve()
        self.database_url, self.redis_url = embedded_urls(self.home)
        wanted = {"postgres": postgres, "valkey": valkey}
        self._names = [name for name, is_wanted in wanted.items() if is_wanted]
        self._holds: list[ServerHold] = []

    def start(self) -> None:
        """Hold the servers and wait until they answer; when one cannot start, hold none."""
        if self._holds:
            return
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._holds = [ServerHold(SERVERS[name](self.home)) for name in self._names]
            for hold in self._holds:
                hold.take()
            for hold in self._holds:
                hold.wait()
        except BaseException as error:
            self.stop()
            if not isinstance(error, OSError):
                raise
            raise EmbeddedServerError(
                f"cannot use {self.home} ({error}): set BRIGADE_HOME to a directory of yours"
            ) from error

    def need_check(self) -> bool:
        """Whether to call ``ensure``; does not ask the servers themselves."""
        return any(hold.needs_check() for hold in self._holds)

    def ensure(self, timeout_seconds: float = 30.0) -> list[str]:
        """Wait until all held servers answer; return the names of those that were started again.

        The watchdog restarts a dead server; this call restarts a dead watchdog.
        """
        return [hold.server.name for hold in self._holds if hold.wait(timeout_seconds)]

    def stop(self) -> None:
        """Release the servers; wait for their end when this was the last holder."""
        holds, self._holds = self._holds, []
        for hold in holds:
            hold.release()
        for hold in holds:
            hold.wait_for_stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
