"""A real supervisor with small children, in a process of its own, for the tests."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.leftovers import nothing_left

ROOT = Path(__file__).resolve().parents[2]
_SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
from rich.console import Console
from inference_site.embedded.lifecycle import EmbeddedServers
from inference_site.supervisor.child import ChildSpec
from inference_site.supervisor.screen import Screen
from inference_site.supervisor.supervisor import Supervisor

home, stop_seconds, children = Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])
valkey = sys.argv[4] == "True"
specs = [
    ChildSpec(name, (sys.executable, "-c", code), stops_first=name == "web")
    for name, code in children.items()
]
screen = Screen(Console(), home / "logs", [spec.name for spec in specs])
servers = EmbeddedServers(home, postgres=False, valkey=valkey)

async def run():
    return await Supervisor(specs, screen, servers, stop_seconds=stop_seconds).run()

with servers:
    sys.exit(asyncio.run(run()))
"""
# Says its number, and goes when told, saying so.
POLITE = """
import os, signal, sys
def stop(number, frame):
    print("bye", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("pid", os.getpid(), flush=True)
while True: signal.pause()
"""
# Has a child of its own, and neither of them goes.
STUBBORN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
os.write(1, b"pid %d\\n" % os.getpid())  # in one piece, beside the other's
while True: signal.pause()
"""


class RunningSupervisor:
    """Reads the screen of the supervisor, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """The next line it shows."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def line_with(self, words: str) -> str:
        """The next line that has ``words``."""
        shown = []
        while line := self.line():
            if words in line:
                return line
            shown.append(line)
        raise AssertionError(f"{words!r} was not shown, but {shown}")

    def pids(self, count: int) -> dict[int, str]:
        """Number and name of the next ``count`` processes that say "pid N"."""
        found: dict[int, str] = {}
        while len(found) < count:
            name, _, said = self.line_with("│ pid ").partition("│")
            found[int(said.split()[1])] = name.strip()
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        """Wait for its end; return its status and its last lines."""
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out.splitlines()


@contextmanager
def supervisor(
    home: Path, stop_seconds: float = 8, valkey: bool = False, **children: str
) -> Iterator[RunningSupervisor]:
    """A supervisor of ``children`` (name to Python code); none outlives the block."""
    arguments = [str(home), str(stop_seconds), json.dumps(children), str(valkey)]
    with nothing_left() as marks:
        process = subprocess.Popen(
            [sys.executable, "-c", _SUPERVISOR, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **marks, "PYTHONPATH": str(ROOT)},
        )
        try:
            yield RunningSupervisor(process)
        finally:
            process.kill()
            process.communicate()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
