"""Random requests to several models at three priorities, each observed from arrival to end."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

PROMPTS = (
    "Write one sentence about the sea.",
    "What is 7 times 8?",
    "Name three colours.",
    "Write a Python function that adds two numbers.",
    "Tell a very short story about a lighthouse.",
)
LOADING = b": loading"


@dataclass(frozen=True)
class Outcome:
    """One request: ``wait_seconds`` until its first token; ``error`` is "" when it succeeded."""

    model: str
    priority: int
    wait_seconds: float
    total_seconds: float
    saw_loading: bool
    error: str


@dataclass
class Traffic:
    """Requests that arrive at random, independently of earlier ones."""

    base_url: str
    api_key: str
    models: Sequence[str]
    embedding_model: str
    per_second: float
    seed: int
    outcomes: list[Outcome] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Send requests for some seconds, then wait for all answers."""
        chance = random.Random(self.seed)  # noqa: S311 - no secret
        timeout = aiohttp.ClientTimeout(total=600)
        headers = {"Authorization": f"Bearer {self.api_key}"}
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers, connector=connector) as session,
            asyncio.TaskGroup() as group,
        ):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if chance.random() < 0.1:
                    group.create_task(self._embed(session))
                else:
                    group.create_task(
                        self._chat(
                            session,
                            chance.choice(self.models),
                            chance.randint(1, 3),
                            chance.choice(PROMPTS),
                            chance.randint(4, 32),
                        )
                    )
                await asyncio.sleep(chance.expovariate(self.per_second))

    async def _chat(
        self,
        session: aiohttp.ClientSession,
        model: str,
        priority: int,
        prompt: str,
        max_tokens: int,
    ) -> None:
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "priority": priority,
            "stream": True,
        }
        began = time.monotonic()
        first_at: float | None = None
        saw_loading, error, done = False, "", False
        try:
            async with session.post(f"{self.base_url}/v1/chat/completions", json=body) as answer:
                if answer.status != 200:
                    error = f"{answer.status}: {(await answer.text())[:300]}"
                async for line in answer.content:
                    saw_loading |= line.startswith(LOADING)
                    if line.startswith(b'data: {"error"'):
                        error = line.decode()[:300]
                    elif line.startswith(b"data: {") and first_at is None:
                        first_at = time.monotonic()
                    done |= line.startswith(b"data: [DONE]")
        except (aiohttp.ClientError, TimeoutError) as reason:
            error = f"{type(reason).__name__}: {reason}"
        now = time.monotonic()
        if not error and not done:
            error = "The stream ended without [DONE]."
        self.outcomes.append(
            Outcome(model, priority, (first_at or now) - began, now - began, saw_loading, error)
        )

    async def _embed(self, session: aiohttp.ClientSession) -> None:
        body = {"model": self.embedding_model, "input": "A lighthouse by the sea."}
        began, error = time.monotonic(), ""
        try:
            async with session.post(f"{self.base_url}/v1/embeddings", json=body) as answer:
                if answer.status != 200:
                    error = f"{answer.status}: {(await answer.text())[:300]}"
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as reason:
            error = f"{type(reason).__name__}: {reason}"
        took = time.monotonic() - began
        self.outcomes.append(Outcome(self.embedding_model, 2, took, took, False, error))
