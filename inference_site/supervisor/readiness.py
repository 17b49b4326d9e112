"""Waiting until the service is ready, and saying what is missing meanwhile."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from inference_site.access_log import OWN_POLL
from inference_site.supervisor.child import Child
from inference_site.supervisor.screen import Screen

PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0


class ReadinessWatch:
    """Asks ``/health/ready`` until it answers 200; a change of what is missing is one line."""

    def __init__(
        self,
        base_url: str,
        screen: Screen,
        on_ready: Callable[[], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Choose whom to ask.

        Args:
            base_url: of the service.
            screen: where to say what is missing.
            on_ready: called once, when it is ready.
            patience_seconds: after so long it is said that this takes long; nothing is stopped.
        """
        self._base_url = base_url
        self._screen = screen
        self._on_ready = on_ready
        self._patience_seconds = patience_seconds

    async def run(self, children: Sequence[Child]) -> None:
        """Ask until the service is ready."""
        began = time.monotonic()
        said, is_late = "", False
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while missing := await self._missing(session):
                if missing != said:
                    self._screen.say(f"Waiting: {missing}", "dim")
                    said = missing
                waited_seconds = time.monotonic() - began
                if waited_seconds > self._patience_seconds and not is_late:
                    self._screen.say(_late(waited_seconds, missing, children), "bold red")
                    is_late = True
                await asyncio.sleep(_POLL_SECONDS)
        self._on_ready()

    async def _missing(self, session: aiohttp.ClientSession) -> str:
        """What keeps the service from being ready; empty when nothing does."""
        try:
            async with session.get(self._base_url + OWN_POLL) as response:
                if response.status == 200:
                    return ""
                return describe_missing(response.status, await response.json())
        except (aiohttp.ClientConnectionError, TimeoutError):
            return f"the web process does not answer yet at {self._base_url}"
        except (aiohttp.ClientError, ValueError) as error:
            return f"{self._base_url}/health/ready answers oddly: {error}"


def describe_missing(status: int, body: Any) -> str:
    """What a readiness answer says is missing, as one line; pure.

    Args:
        status: its HTTP status.
        body: its JSON.
    """
    if not isinstance(body, dict) or "reason" not in body:
        return f"/health/ready answers {status}"
    hosts = body.get("dependencies", {}).get("hosts", {})
    states = [
        f"{replica['version']}: {replica['state']}"
        + (f" {replica['progress']:.0%}" if replica["state"] == "loading" else "")
        + (f" ({replica['reason']})" if replica.get("reason") else "")
        for replica in hosts.get("replicas", ())
        if replica["state"] != "ready"
    ]
    return " ".join([body["reason"], f"[{', '.join(states)}]"] if states else [body["reason"]])


def _late(waited_seconds: float, missing: str, children: Sequence[Child]) -> str:
    ends = [f"{child.spec.name} ended {len(child.history)} times" for child in children
            if child.history]  # fmt: skip
    found = f" Meanwhile {', '.join(ends)}: see their logs." if ends else ""
    return f"Not ready after {waited_seconds:.0f} s, still trying. {missing}.{found}"
