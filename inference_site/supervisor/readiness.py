"""Wait until the service is ready, and show what is missing until then."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from inference_site.log_filters import OWN_POLL
from inference_site.supervisor.child import Child
from inference_site.supervisor.screen import Screen

PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 10.0


@dataclass
class ReadinessWatch:
    """Polls ``/health/ready`` until it answers 200, then calls ``on_ready``.

    It shows each change of the answer, and after ``patience_seconds`` a warning.
    """

    base_url: str
    screen: Screen
    on_ready: Callable[[], None]
    patience_seconds: float = PATIENCE_SECONDS

    async def run(self, children: Sequence[Child]) -> None:
        began = time.monotonic()
        shown, is_late = "", False
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while missing := await self._missing(session):
                if missing != shown:
                    self.screen.say(f"Waiting: {missing}", "dim")
                    shown = missing
                waited_seconds = time.monotonic() - began
                if waited_seconds > self.patience_seconds and not is_late:
                    self.screen.say(_late(waited_seconds, missing, children), "bold red")
                    is_late = True
                await asyncio.sleep(_POLL_SECONDS)
        self.on_ready()

    async def _missing(self, session: aiohttp.ClientSession) -> str:
        try:
            async with session.get(self.base_url + OWN_POLL) as response:
                if response.status == 200:
                    return ""
                return describe_missing(response.status, await response.json())
        except (aiohttp.ClientConnectionError, TimeoutError):
            return f"the web process does not answer yet at {self.base_url}"
        except (aiohttp.ClientError, ValueError) as error:
            return f"{self.base_url}/health/ready gives an invalid answer: {error}"


def describe_missing(status: int, body: Any) -> str:
    """Return what is missing according to a readiness answer, as one line; pure."""
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
