"""The watchdog: a process that runs one server for as long as another process holds it.

A holder starts ``python -m inference_site.embedded.watchdog NAME HOME``. It ends with status 1, and
the reason on standard output, when the server cannot be started; later errors go to the log.
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

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.files import FileLock, last_lines
from inference_site.embedded.postgres import PostgresServer
from inference_site.embedded.server import EmbeddedServer
from inference_site.embedded.valkey import ValkeyServer

SERVERS: dict[str, type[EmbeddedServer]] = {
    PostgresServer.name: PostgresServer,
    ValkeyServer.name: ValkeyServer,
}
_POLL_SECONDS = 0.1
# In case a kernel loses a wake-up.
_CHECK_SECONDS = 30.0
_SHORT_LIFE_SECONDS = 5.0
_LONGEST_DELAY_SECONDS = 10.0


def restart_delay_seconds(short_lives: int) -> float:
    """Return the delay of the next start after ``short_lives`` short lives in a row."""
    return min(0.25 * 2**short_lives, _LONGEST_DELAY_SECONDS) if short_lives else 0.0


class Watchdog:
    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._holders = FileLock(server.holders_path)
        self._must_stop = False
        self._short_lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    def start(self) -> None:
        """Start the server and wait until it answers."""
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
            if self._is_finished():
                break
            time.sleep(0.02)

    def run(self) -> None:
        """Restart the server until the last holder ends or a signal comes; then stop it."""
        awake, waker = os.pipe()
        for end in (awake, waker):
            os.set_blocking(end, False)
        # A signal that comes just before the wait is in the pipe and ends the wait.
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        threading.Thread(target=self._wait_for_holders, args=(waker,), daemon=True).start()
        while not self._is_finished():
            if self._process is None:
                self._restart()
                continue
            status = self._process.poll()
            if status is None:
                select.select([awake], [], [], _CHECK_SECONDS)
                while select.select([awake], [], [], 0)[0]:
                    os.read(awake, 4096)
                continue
            self._log(f"{self._server.name} ended with status {status}; starting it again")
            lived_seconds = time.monotonic() - self._started_at
            short = lived_seconds < _SHORT_LIFE_SECONDS
            self._short_lives = self._short_lives + 1 if short else 0
            self._process = None
        if self._process is not None:
            self._server.stop(self._process)

    def _wait_for_holders(self, waker: int) -> None:
        # The lock belongs to the open file, so the main thread has it, too.
        self._holders.wait_exclusive()
        os.write(waker, b"\0")

    def request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._must_stop = True

    def _restart(self) -> None:
        deadline = time.monotonic() + restart_delay_seconds(self._short_lives)
        while time.monotonic() < deadline and not self._is_finished():
            time.sleep(_POLL_SECONDS)
        if self._is_finished():
            return
        try:
            self._launch()
        except EmbeddedServerError as error:
            self._log(str(error))
            self._short_lives += 1

    def _launch(self) -> subprocess.Popen[bytes]:
        server = self._server
        self._process = server.launch()
        self._started_at = time.monotonic()
        temporary = server.starts_path.with_suffix(".starts.new")
        temporary.write_text(str(server.read_starts() + 1))
        temporary.replace(server.starts_path)
        return self._process

    def _is_finished(self) -> bool:
        # The lock is kept once taken: no new holder may join while the server is being stopped.
        if not self._must_stop and self._holders.try_exclusive():
            self._must_stop = True
        return self._must_stop

    @staticmethod
    def _log(text: str) -> None:
        sys.stderr.write(f"watchdog {os.getpid()}: {text}\n")
        sys.stderr.flush()


def main(name: str, home: Path) -> int:
    server = SERVERS[name](home)
    # Never closed: the kernel releases it when this process has ended.
    lock = FileLock(server.watchdog_path)
    if not lock.try_exclusive():
        return 0
    lock.write(f"process {os.getpid()}")
    watchdog = Watchdog(server)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, watchdog.request_stop)
    try:
        watchdog.start()
    except (EmbeddedServerError, OSError) as error:
        sys.stdout.write(str(error))
        return 1
    # The process that started this one, and reads the pipe, may have ended.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    watchdog.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
