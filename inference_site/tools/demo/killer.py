"""Kills a part of the service every now and then: a host, the web process, Redis, Postgres."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Final

import psutil
from django.conf import settings
from rich.console import Console


def _mine(*words: str) -> Iterator[psutil.Process]:
    """Processes of this home whose command line has all of ``words``."""
    home = str(settings.BRIGADE_HOME)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            is_mine = home in line or process.environ().get("BRIGADE_HOME", "") == home
            if is_mine and process.pid != os.getpid() and all(word in line for word in words):
                yield process


def _host() -> psutil.Process | None:
    """A process of the cluster that has loaded llama.cpp."""
    for process in _mine("cluster", "models"):
        with contextlib.suppress(psutil.Error, OSError):
            if any("libllama" in each.path for each in process.memory_maps()):
                return process
    return None


def _web() -> psutil.Process | None:
    return next(_mine("manage.py", "web"), None)


def _redis() -> psutil.Process | None:
    return next(_mine("valkey-server"), None)


def _postgres() -> psutil.Process | None:
    servers = sorted(_mine("bin/postgres"), key=lambda process: process.create_time())
    return servers[0] if servers else None


VICTIMS: Final[dict[str, Callable[[], psutil.Process | None]]] = {
    "host": _host,
    "web": _web,
    "Redis": _redis,
    "Postgres": _postgres,
}


async def kill_in_turn(every_seconds: float, kills: list[str], console: Console) -> None:
    """``kill -9`` one after the other for ever; append the name of each to ``kills``."""
    for name in itertools.cycle(VICTIMS):
        await asyncio.sleep(every_seconds)
        victim = await asyncio.to_thread(VICTIMS[name])
        if victim is None:
            console.print(f"There was no {name} to kill.")
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            kills.append(name)
            console.print(f"Killed: {name} ({victim.pid}).")
