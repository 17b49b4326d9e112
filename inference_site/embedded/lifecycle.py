"""Holding the embedded servers of a home: the entrance for everything that needs them."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from inference_site.embedded.errors import EmbeddedServerError
from inference_site.embedded.keeper import SERVERS, holders_lock, keeper_lock, read_starts
from inference_site.embedded.logs import last_lines, open_log
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.urls import embedded_urls

logger = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.02
_START_SECONDS = 90.0
_STOP_SECONDS = 20.0


class ServerHold:
    """This process's share in one server."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._holders = holders_lock(server)
        self._keeper: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def take(self) -> None:
        """Join the holders, waiting for a stop that is under way, and see that a keeper runs."""
        deadline = time.monotonic() + _STOP_SECONDS
        while not self._holders.try_shared():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self.server.name} of {self.server.home} is being stopped and does not end"
                )
            time.sleep(_POLL_SECONDS)
        if not self.server.answers():
            self._call_keeper()

    def wait(self, timeout_seconds: float = _START_SECONDS) -> bool:
        """Wait until the server answers, calling a keeper whenever there is none.

        Returns:
            Whether the server was started since this hold last looked.

        Raises:
            EmbeddedServerError: it cannot be started, or does not answer in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self.server.answers():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self.server.name} did not answer within {timeout_seconds:g} s; "
                    f"the last lines of its log:\n{last_lines(self.server.log_path)}"
                )
            self._call_keeper()
            time.sleep(_POLL_SECONDS)
        before, self._starts = self._starts, read_starts(self.server)
        return before != self._starts

    def is_disturbed(self) -> bool:
        """Whether the server has been started since this hold last looked, or has no keeper."""
        with keeper_lock(self.server) as keeper:
            return keeper.try_exclusive() or read_starts(self.server) != self._starts

    def let_go(self) -> None:
        """Leave the holders; the keeper stops the server if this was the last."""
        self._holders.release()

    def wait_for_stop(self) -> None:
        """Wait until the keeper has gone; returns at once when others hold the server."""
        deadline = time.monotonic() + _STOP_SECONDS
        with keeper_lock(self.server) as keeper:
            while not (ended := keeper.try_exclusive()) and not self._others_hold():
                if time.monotonic() > deadline:
                    logger.warning("%s is still stopping: %s", self.server.name, keeper.read())
                    break
                time.sleep(_POLL_SECONDS)
        self._holders.close()
        if self._keeper is not None and ended:
            self._keeper.communicate()  # takes the exit status, so that no zombie stays

    def _others_hold(self) -> bool:
        # Shared fails while the keeper has the lock alone to stop; exclusive, while others hold.
        others = self._holders.try_shared() and not self._holders.try_exclusive()
        self._holders.release()
        return others

    def _call_keeper(self) -> None:
        if self._keeper is not None:
            status = self._keeper.poll()
            if status is None:
                return
            said = self._keeper.communicate()[0].decode(errors="replace")
            self._keeper = None
            if status > 0:
                raise EmbeddedServerError(said or last_lines(self.server.log_path))
        with keeper_lock(self.server) as keeper:
            if not keeper.try_exclusive():
                return
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        with open_log(self.server.log_path) as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-m", "inference_site.embedded.keeper", self.server.name,
                 str(self.server.home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,
            )  # fmt: skip


class EmbeddedServers:
    """The Postgres and Valkey of a home, held from ``start`` to ``stop``.

    Any number of processes may hold them at once. They stop when the last lets go, also when it
    was killed. Their data stays in the home.
    """

    def __init__(self, home: Path, postgres: bool = True, valkey: bool = True) -> None:
        """Choose the servers; nothing is started.

        Args:
            home: BRIGADE_HOME; made when missing.
            postgres: hold Postgres.
            valkey: hold Valkey.
        """
        self.home = home.resolve()
        self.database_url, self.redis_url = embedded_urls(self.home)
        self._names = [
            name for name, wanted in (("postgres", postgres), ("valkey", valkey)) if wanted
        ]
        self._holds: list[ServerHold] = []

    def start(self) -> None:
        """Hold the servers and wait until they answer; they start side by side.

        Raises:
            EmbeddedServerError: one cannot be started; none is held then.
        """
        if self._holds:
            return
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._holds = [ServerHold(SERVERS[name](self.home)) for name in self._names]
            for hold in self._holds:
                hold.take()
            for hold in self._holds:
                hold.wait()
        except OSError as error:
            self.stop()
            raise EmbeddedServerError(
                f"cannot use {self.home} ({error}): set BRIGADE_HOME to a directory of yours"
            ) from error
        except BaseException:
            self.stop()
            raise

    def are_disturbed(self) -> bool:
        """Whether ``ensure`` is called for; the servers themselves are asked nothing."""
        return any(hold.is_disturbed() for hold in self._holds)

    def ensure(self, timeout_seconds: float = 30.0) -> list[str]:
        """See that the servers held answer, and wait until they do.

        The keeper starts a dead server again by itself; this finds a dead keeper as well.

        Args:
            timeout_seconds: how long each server may take.

        Returns:
            The names of the servers that were started again since ``start`` or the last call.

        Raises:
            EmbeddedServerError: one does not come back; the text has its last log lines.
        """
        return [hold.server.name for hold in self._holds if hold.wait(timeout_seconds)]

    def stop(self) -> None:
        """Let the servers go; waits for their end when this was the last holder."""
        holds, self._holds = self._holds, []
        for hold in holds:
            hold.let_go()
        for hold in holds:
            hold.wait_for_stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
