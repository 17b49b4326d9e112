"""Loads and unloads other models during a measurement."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import aiohttp
import msgspec

from inference_site.tools.bench import wire
from inference_site.tools.bench.client import CompletionClient, CompletionRequest
from inference_site.tools.bench.observation import Failure, Observation
from inference_site.tools.bench.target import Target

POLL_SECONDS = 0.1
LEAVE_SECONDS = 30.0


@dataclass
class Swapping:
    """Requests one model after the other, and unloads each once it has answered.

    Args:
        session: its connections.
        target: a Brigade whose key may unload models.
        models: in the order of the requests.
    """

    session: aiohttp.ClientSession
    target: Target
    models: Sequence[str]
    # For each load, from the request to the end of an answer of one token.
    load_seconds: list[float] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    async def run(self) -> None:
        """Repeat until cancelled or until a failure, which is recorded."""
        if not await self.clear():
            return
        for model in itertools.cycle(self.models):
            began = time.perf_counter()
            if not await self._ask(model):
                return
            self.load_seconds.append(time.perf_counter() - began)
            if not await self._unload(model):
                return

    async def clear(self) -> bool:
        """Unload all the models; return False after a failure, which is recorded."""
        return all([await self._unload(model) for model in self.models])

    async def _ask(self, model: str) -> bool:
        client = CompletionClient(self.session, replace(self.target, model=model))
        seen = Observation(time.perf_counter())
        message = {"role": "user", "content": "Once upon a time"}
        await client.complete(CompletionRequest([message], 1, 0.0, "completions"), seen)
        if seen.failure is not None:
            self.failures.append(seen.failure)
        return seen.failure is None

    async def _unload(self, model: str) -> bool:
        headers = {"Authorization": f"Bearer {self.target.api_key}"}
        url = self.target.url(f"/models/{model}")
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                async with self.session.post(f"{url}/unload", headers=headers) as answer:
                    if answer.status >= 400:
                        return self._fail(f"http {answer.status}", (await answer.text())[:300])
                while True:
                    async with self.session.get(url, headers=headers) as answer:
                        if answer.status >= 400:
                            return self._fail(f"http {answer.status}", (await answer.text())[:300])
                        state = msgspec.json.decode(await answer.read(), type=wire.ModelState)
                    if not state.in_memory:
                        return True
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return self._fail("unload", f"{model} did not leave memory within {LEAVE_SECONDS:g} s")
        except (aiohttp.ClientError, msgspec.DecodeError) as error:
            return self._fail("unload", str(error) or type(error).__name__)

    def _fail(self, kind: str, message: str) -> bool:
        self.failures.append(Failure(kind, message))
        return False
