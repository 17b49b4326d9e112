"""Streams, whole answers, clients that leave, and bad requests; with what each client was told."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from inference_site.tools.demo.traffic import PROMPTS

_BAD_REQUESTS: tuple[dict[str, Any], ...] = (
    {"temperature": 99},
    {"model": "nobody-knows-it"},
    {"messages": []},
    {"max_tokens": 10_000_000},
)


@dataclass(frozen=True)
class Told:
    """The usage that a client was told at the end of an answer."""

    run_id: str
    prompt_tokens: int
    completion_tokens: int


@dataclass
class MixedTraffic:
    """Requests that arrive at random, independently of earlier ones."""

    base_url: str
    api_key: str
    models: Sequence[str]
    per_second: float
    seed: int
    told: list[Told] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def run(self, seconds: float) -> None:
        """Send requests for some seconds, then wait for all answers."""
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=300),
                headers={"Authorization": f"Bearer {self.api_key}"},
                connector=connector,
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                group.create_task(self._request(session, chance))
                await asyncio.sleep(chance.expovariate(self.per_second))

    async def _request(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        body: dict[str, Any] = {
            "model": chance.choice(self.models),
            "messages": [{"role": "user", "content": chance.choice(PROMPTS)}],
            "max_tokens": chance.randint(1, 60),
        }
        kind = chance.choices(("stream", "whole", "leave", "bad"), (50, 20, 20, 10))[0]
        leave_after = chance.randint(0, 20)
        if kind == "bad":
            body |= chance.choice(_BAD_REQUESTS)
        elif kind != "whole":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if kind in ("whole", "stream") and chance.random() < 0.2:
            body["n"] = 2
        try:
            async with session.post(f"{self.base_url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    self.counts[f"{kind}: {answer.status}"] += 1
                elif kind in ("stream", "leave"):
                    limit = leave_after if kind == "leave" else None
                    await self._read(answer.content, kind, limit)
                else:
                    self._take(await answer.json(), kind)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.counts[f"{kind}: {type(error).__name__}"] += 1

    async def _read(self, content: aiohttp.StreamReader, kind: str, limit: int | None) -> None:
        chunks = 0
        async for line in content:
            if line.startswith(b'data: {"error"'):
                self.counts[f"{kind}: error in the stream"] += 1
                return
            if not line.startswith(b"data: {"):
                continue
            chunk = msgspec.json.decode(line[6:])
            if chunk.get("usage"):
                self._take(chunk, kind)
                return
            chunks += 1
            if limit is not None and chunks > limit:
                self.counts[f"{kind}: left"] += 1
                return
        self.counts[f"{kind}: cut"] += 1

    def _take(self, content: dict[str, Any], kind: str) -> None:
        usage = content["usage"]
        self.counts[f"{kind}: answered"] += 1
        self.told.append(Told(content["id"], usage["prompt_tokens"], usage["completion_tokens"]))
