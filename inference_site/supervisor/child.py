"""One process of the service: started, read, restarted when it ends, stopped with its group."""

import asyncio
import functools
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from inference.cluster.parent_death import die_with_parent
from inference_site.supervisor.screen import Screen

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 30.0
HEALTHY_LIFE_SECONDS = 30.0
_READ_BYTES = 65_536
# The time in which a killed group closes the pipe.
_PIPE_SECONDS = 1.0


@dataclass(frozen=True)
class ChildSpec:
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    stops_first: bool = False


@dataclass(frozen=True)
class Life:
    """One start and end of a process, in monotonic seconds."""

    started_at: float
    ended_at: float


def restart_delay(history: Sequence[Life], now: float) -> float:
    """Return the seconds from ``now`` until the next start; pure.

    Each life shorter than 30 s doubles the delay, from 1 s up to 30 s; a longer one resets it.
    ``history`` begins with the oldest life.
    """
    if not history:
        return 0.0
    short_lives = 0
    for life in reversed(history):
        if life.ended_at - life.started_at >= HEALTHY_LIFE_SECONDS:
            break
        short_lives += 1
    doublings = min(max(short_lives - 1, 0), 16)
    delay = min(FIRST_DELAY_SECONDS * 2**doublings, LONGEST_DELAY_SECONDS)
    return max(0.0, history[-1].ended_at + delay - now)


class Child:
    """A process that is kept alive until ``terminate``."""

    def __init__(self, spec: ChildSpec, screen: Screen) -> None:
        self.spec = spec
        self.history: deque[Life] = deque(maxlen=16)
        self._screen = screen
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.ended = asyncio.Event()

    async def keep(self) -> None:
        try:
            while not await self._stops_within(restart_delay(self.history, time.monotonic())):
                started_at = time.monotonic()
                end = await self._run_once()
                self.history.append(Life(started_at, time.monotonic()))
                if not self._stopping.is_set():
                    delay = restart_delay(self.history, time.monotonic())
                    self._screen.say(
                        f"{self.spec.name} {end}; it is started again in {delay:.0f} s "
                        f"(log: {self._screen.log_path(self.spec.name)})",
                        style="bold red",
                    )
        finally:
            self.kill()
            self.ended.set()

    def terminate(self) -> None:
        """Send SIGTERM and do not restart the process."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _stops_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _run_once(self) -> str:
        """Run the process to its end; return how it ended, for the screen."""
        output, into_output = os.pipe()
        try:
            process = await self._start(into_output)
        except OSError as error:
            os.close(output)
            return f"cannot be started ({error})"
        finally:
            os.close(into_output)
        self._process = process
        reader = asyncio.create_task(self._read(output))
        try:
            if self._stopping.is_set():  # since the start began
                process.send_signal(signal.SIGTERM)
            status = await process.wait()
        finally:
            self._process = None
            _kill_group(process.pid)
            await asyncio.wait([reader], timeout=_PIPE_SECONDS)
            reader.cancel()
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    async def _start(self, into_output: int) -> asyncio.subprocess.Process:
        tie = functools.partial(die_with_parent, os.getpid()) if sys.platform == "linux" else None
        # With a pipe of asyncio's own, wait() would wait for every process that inherited it.
        return await asyncio.create_subprocess_exec(
            *self.spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=into_output,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self.spec.environment},
            cwd=self.spec.directory,
            start_new_session=True,
            preexec_fn=tie,
        )

    async def _read(self, output: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
        )
        rest = b""
        try:
            while block := await reader.read(_READ_BYTES):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._screen.line(self.spec.name, line)
                if len(rest) > _READ_BYTES:  # no end of line in sight
                    self._screen.line(self.spec.name, rest)
                    rest = b""
        finally:
            transport.close()
            if rest:
                self._screen.line(self.spec.name, rest)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
