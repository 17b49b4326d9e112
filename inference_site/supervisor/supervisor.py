"""Starts, watches and stops all processes together."""

import asyncio
import signal
import time
import traceback
from typing import Any

from inference_site.embedded import EmbeddedServerError
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.supervisor.child import Child, ChildSpec
from inference_site.supervisor.readiness import ReadinessWatch
from inference_site.supervisor.screen import Screen

STOP_SECONDS = 8.0
_FIRST_STOP_SECONDS = 3.0
_CHECK_SECONDS = 1.0
# A server that hangs keeps its watchdog, so it is also asked, less often: that starts a process.
_PROBE_SECONDS = 5.0
_SERVER_SECONDS = 5.0


class Supervisor:
    """Runs the processes of the service until a signal; the second signal kills them.

    It restarts ``servers`` that die. ``watch`` reports that the service is ready. A stop kills what
    still runs after ``stop_seconds``.
    """

    def __init__(
        self,
        specs: list[ChildSpec],
        screen: Screen,
        servers: EmbeddedServers,
        watch: ReadinessWatch | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self._screen = screen
        self._servers = servers
        self._watch = watch
        self._stop_seconds = stop_seconds
        self.children = [Child(spec, screen) for spec in specs]
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()

    async def run(self) -> int:
        """Run until SIGINT, SIGTERM or SIGHUP; return 0, or 130 after a second signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.request_stop)
        background = [asyncio.create_task(self._check_servers())]
        if self._watch is not None:
            background.append(asyncio.create_task(self._watch.run(self.children)))
        for task in background:
            task.add_done_callback(self._show_failure)
        try:
            async with asyncio.TaskGroup() as group:
                for child in self.children:
                    group.create_task(child.keep())
                await self._stop.wait()
                for task in background:
                    task.cancel()
                await self._stop_children()
        finally:
            for child in self.children:
                child.kill()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return 130 if self._kill.is_set() else 0

    def request_stop(self) -> None:
        if self._stop.is_set():
            self._kill.set()
        else:
            self._screen.say("Stopping. Press Ctrl-C again to kill at once.")
            self._stop.set()

    async def _stop_children(self) -> None:
        """Stop the web process first, so that no request meets half of a service."""
        deadline = time.monotonic() + self._stop_seconds
        first = [child for child in self.children if child.spec.stops_first]
        for child in first:
            child.terminate()
        await self._wait_for_end(first, min(_FIRST_STOP_SECONDS, self._stop_seconds))
        for child in self.children:
            if child not in first:
                child.terminate()
        await self._wait_for_end(self.children, deadline - time.monotonic())
        for child in self.children:
            if not child.ended.is_set():
                if not self._kill.is_set():
                    self._screen.say(f"{child.spec.name} did not stop in time and is killed", "red")
                child.kill()

    async def _wait_for_end(self, children: list[Child], seconds: float) -> None:
        """Wait until all have ended, the time is over, or a second signal came."""
        ends = asyncio.gather(*(child.ended.wait() for child in children))
        killed = asyncio.create_task(self._kill.wait())
        waits: list[asyncio.Future[Any]] = [ends, killed]
        await asyncio.wait(waits, timeout=max(seconds, 0), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _show_failure(self, task: "asyncio.Task[None]") -> None:
        # A failed watch is no reason to end the service.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._screen.say("".join(traceback.format_exception(error)), "bold red")

    async def _check_servers(self) -> None:
        probe_at = 0.0
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            try:
                if time.monotonic() < probe_at and not self._servers.need_check():
                    continue
                restarted = await asyncio.to_thread(self._servers.ensure, _SERVER_SECONDS)
            except (EmbeddedServerError, OSError) as error:
                self._screen.say(f"{error}\nTrying again.", "bold red")
                continue
            probe_at = time.monotonic() + _PROBE_SECONDS
            for name in restarted:
                self._screen.say(f"{name} had died and was started again", "bold red")
