"""The keeper: a process that owns one server for as long as somebody holds it.

``python -m inference_site.embedded.keeper NAME HOME`` is started by a holder. It says on its
standard output why the server could not be started, if so, and ends with status 1; after that the
log file has its words. The kernel tells the server to stop when the keeper dies.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from inference_site.embedded.errors import EmbeddedServerError
from inference_site.embedded.lock import FileLock
from inference_site.embedded.logs import last_lines
from inference_site.embedded.postgres import PostgresServer
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.valkey import ValkeyServer

SERVERS: dict[str, type[EmbeddedServer]] = {
    PostgresServer.name: PostgresServer,
    ValkeyServer.name: ValkeyServer,
}
_TICK_SECONDS = 0.1
# For a kernel that loses a wake-up; none is known to.
_LOOK_SECONDS = 30.0
_SHORT_LIFE_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 10.0


def holders_lock(server: EmbeddedServer) -> FileLock:
    """The lock that holders share; the keeper takes it alone to stop the server."""
    return FileLock(server.home / "run" / f"{server.name}.holders.lock")


def keeper_lock(server: EmbeddedServer) -> FileLock:
    """The lock that the one keeper of a server has while it lives."""
    return FileLock(server.home / "run" / f"{server.name}.keeper.lock")


def starts_path(server: EmbeddedServer) -> Path:
    """The file that counts the starts of a server, by which holders notice a restart."""
    return server.home / "run" / f"{server.name}.starts"


def read_starts(server: EmbeddedServer) -> int:
    """How often the server has been started in this home."""
    try:
        return int(starts_path(server).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def restart_delay_seconds(short_lives: int) -> float:
    """How long to wait before the next start, after so many short lives in a row."""
    return min(0.25 * 2**short_lives, _LONGEST_DELAY_SECONDS) if short_lives else 0.0


class Keeper:
    """Starts, restarts and stops one server."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._holders = holders_lock(server)
        self._told_to_stop = False
        self._short_lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedServerError: it ended first; the text has its last log lines.
        """
        server = self._server
        log_bytes = server.log_path.stat().st_size if server.log_path.is_file() else 0
        process = self._launch()
        while not server.answers():
            if process.poll() is not None:
                if server.log_path.stat().st_size < log_bytes:
                    log_bytes = 0
                raise EmbeddedServerError(
                    f"{server.name} ended with status {process.returncode}; "
                    f"the last lines of {server.log_path}:\n"
                    + last_lines(server.log_path, since_bytes=log_bytes)
                )
            if self._finished():
                break
            time.sleep(0.02)

    def keep(self) -> None:
        """Keep the server alive until the last holder has gone or a signal comes; then stop it."""
        awake, waker = os.pipe()
        for end in (awake, waker):
            os.set_blocking(end, False)
        # A signal that comes a moment before the wait is in the pipe, and ends it.
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        threading.Thread(target=self._wait_for_holders, args=(waker,), daemon=True).start()
        while not self._finished():
            if self._process is None:
                self._restart()
                continue
            status = self._process.poll()
            if status is None:
                select.select([awake], [], [], _LOOK_SECONDS)
                while select.select([awake], [], [], 0)[0]:
                    os.read(awake, 4096)
                continue
            self._say(f"{self._server.name} ended with status {status}; starting it again")
            lived_seconds = time.monotonic() - self._started_at
            short = lived_seconds < _SHORT_LIFE_SECONDS
            self._short_lives = self._short_lives + 1 if short else 0
            self._process = None
        if self._process is not None:
            self._server.stop(self._process)

    def _wait_for_holders(self, waker: int) -> None:
        """Sleep until the last holder has gone, and wake the main thread.

        The lock that comes then is the keeper's, whichever thread has asked for it.
        """
        self._holders.wait_exclusive()
        os.write(waker, b"\0")

    def ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        """Signal handler: stop the server and end, whoever holds it."""
        self._told_to_stop = True

    def _restart(self) -> None:
        deadline = time.monotonic() + restart_delay_seconds(self._short_lives)
        while time.monotonic() < deadline and not self._finished():
            time.sleep(_TICK_SECONDS)
        if self._finished():
            return
        try:
            self._launch()
        except EmbeddedServerError as error:
            self._say(str(error))
            self._short_lives += 1

    def _launch(self) -> subprocess.Popen[bytes]:
        self._process = self._server.launch()
        self._started_at = time.monotonic()
        temporary = starts_path(self._server).with_suffix(".starts.new")
        temporary.write_text(str(read_starts(self._server) + 1))
        temporary.replace(starts_path(self._server))
        return self._process

    def _finished(self) -> bool:
        # Kept once taken: a new holder must not come in while the server is being stopped.
        if not self._told_to_stop and self._holders.try_exclusive():
            self._told_to_stop = True
        return self._told_to_stop

    @staticmethod
    def _say(text: str) -> None:
        sys.stderr.write(f"keeper {os.getpid()}: {text}\n")
        sys.stderr.flush()


def main(name: str, home: Path) -> int:
    """Keep the server ``name`` of ``home``; the exit status is 1 when it cannot be started."""
    server = SERVERS[name](home)
    # Never closed: the kernel releases it when nothing of this process is left.
    lock = keeper_lock(server)
    if not lock.try_exclusive():
        return 0
    lock.write(f"process {os.getpid()}")
    keeper = Keeper(server)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, keeper.ask_to_stop)
    try:
        keeper.start()
    except (EmbeddedServerError, OSError) as error:
        sys.stdout.write(str(error))
        return 1
    # Whoever started the keeper may have gone, and with it the reader of the pipe.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    keeper.keep()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
