"""One process of the service: started, read, started again when it ends, stopped with its group."""

import asyncio
import functools
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inference.cluster.parent_death import die_with_parent
from inference_site.supervisor.restarts import Life, restart_decision
from inference_site.supervisor.screen import Screen

_READ_BYTES = 65_536
# What a killed group may still take to let go of the pipe.
_PIPE_SECONDS = 1.0


@dataclass(frozen=True)
class ChildSpec:
    """How to start a process and when to stop it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    stops_first: bool = False


class Child:
    """A process that is kept alive until told to stop."""

    def __init__(self, spec: ChildSpec, screen: Screen) -> None:
        self.spec = spec
        self.history: deque[Life] = deque(maxlen=16)
        self._screen = screen
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.ended = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process number, which is also its group's; None while it does not run."""
        return self._process.pid if self._process else None

    async def keep(self) -> None:
        """Start the process, and start it again whenever it ends, until ``terminate``."""
        try:
            while not await self._told_to_stop(restart_decision(self.history, time.monotonic())):
                started_at = time.monotonic()
                said = await self._live()
                self.history.append(Life(started_at, time.monotonic()))
                if not self._stopping.is_set():
                    delay = restart_decision(self.history, time.monotonic())
                    self._screen.say(
                        f"{self.spec.name} {said}; it is started again in {delay:.0f} s "
                        f"(log: {self._screen.log_path(self.spec.name)})",
                        style="bold red",
                    )
        finally:
            self.kill()
            self.ended.set()

    def terminate(self) -> None:
        """Ask the process to end, and start it no more."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and everything in its group at once."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _told_to_stop(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _live(self) -> str:
        """One life of the process; tells how it ended."""
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
            if self._stopping.is_set():  # told so during the start
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
        # A pipe of asyncio's own would keep wait() waiting for all who have inherited it.
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
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody is left in it
