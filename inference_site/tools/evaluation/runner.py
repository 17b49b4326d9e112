"""Asks a running service for the answers of all arms."""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec

from inference.orchestration.modes.panel import MERGE
from inference_site.tools.bench.target import Target, TargetError
from inference_site.tools.evaluation.records import Item, Result, Results

SINGLE, GREEDY, PANEL, PLACEBO = "single", "greedy", "panel", "placebo"
# As the modes have it for several members on one version, whose default may be lower.
VOTE_TEMPERATURE: Final = 0.7
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 2.0


@dataclass
class Runner:
    """A comparison on a service."""

    session: aiohttp.ClientSession
    target: Target
    items: Sequence[Item]
    arms: Mapping[str, Mapping[str, Any]]  # the fields of each mode's requests
    seed: int
    votes: int  # single answers of a panel
    results: Results
    advance: Callable[[int, int], None]  # is told how many answers are there, of how many
    version: str = ""
    answers: dict[str, dict[str, Result]] = field(default_factory=dict)  # by arm and item

    async def collect(self, concurrency: int) -> None:
        """Ask for all answers. Raises TargetError if the service or the model is absent."""
        status, content = await self._fetch("GET", f"/models/{self.target.model}")
        if status != 200:
            raise TargetError(f"{self.target.model}: {status} {content}")
        self.version = json.loads(content)["version"]
        panel = {"n": self.votes, "temperature": VOTE_TEMPERATURE}
        direct: dict[str, Mapping[str, Any]]
        direct = {SINGLE: {}, GREEDY: {"temperature": 0}, PANEL: panel, **self.arms}
        # The answers of a panel wait in the queue one by one: a few panels fill it.
        free = asyncio.Semaphore(concurrency)
        few = asyncio.Semaphore(max(1, concurrency // self.votes))
        asked = [(arm, item, fields, "") for item in self.items for arm, fields in direct.items()]
        total, done = len(asked) + len(self.items), 0

        async def ask(arm: str, item: Item, fields: Mapping[str, Any], block: str) -> None:
            nonlocal done
            result = await self._answer(arm, item, fields, block, few if arm == PANEL else free)
            self.answers.setdefault(arm, {})[item.id] = result
            done += 1
            self.advance(done, total)

        try:
            async with asyncio.TaskGroup() as group:
                for one in asked:
                    group.create_task(ask(*one))
            async with asyncio.TaskGroup() as group:
                for item, block in self._placebos():
                    group.create_task(ask(PLACEBO, item, {}, block))
        except* TargetError as errors:
            raise TargetError(str(errors.exceptions[0])) from errors

    def _placebos(self) -> list[tuple[Item, str]]:
        """Merges of three answers to another item: to the next one, in the order of groups."""
        ordered = sorted(self.items, key=lambda item: item.group)
        found = []
        for item, other in zip(ordered, [*ordered[1:], ordered[0]], strict=True):
            texts = zip("ABC", self.answers[PANEL][other.id].texts, strict=False)
            answers = "\n".join(f"<<<answer {x}\n{text}\nanswer {x}>>>" for x, text in texts)
            found += [(item, MERGE.format(answers=answers))] if answers and other != item else []
        return found

    async def _answer(
        self, arm: str, item: Item, fields: Mapping[str, Any], block: str, free: asyncio.Semaphore
    ) -> Result:
        """The answer to a request; one that failed for the moment is asked for again."""
        prompt = f"{item.prompt}\n\n{block}" if block else item.prompt
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.target.model, "messages": messages, "seed": self.seed}
        body |= {**item.fields, **fields}
        asked = msgspec.json.encode([self.version, body], order="sorted")
        key = hashlib.sha256(asked).hexdigest()[:16]
        if known := self.results.find(key):
            return msgspec.structs.replace(known, arm=arm, item=item.id)
        result = Result(key, f"{datetime.now(UTC):%Y-%m-%d}", arm, item.id)
        async with free:
            for number in range(_TRIES):
                await asyncio.sleep(_PAUSE_SECONDS * bool(number))
                began = time.perf_counter()
                status, content = await self._fetch("POST", "/chat/completions", body)
                if status == 200:
                    seconds = round(time.perf_counter() - began, 3)
                    result = _filled(result, json.loads(content), seconds)
                    break
                result = msgspec.structs.replace(result, error=f"{status} {content[:300]}")
                if status < 500 and status != 429:
                    break
        self.results.add(result)
        return result

    async def _fetch(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        url, headers = self.target.url(path), {"Authorization": f"Bearer {self.target.api_key}"}
        sent = self.session.request(method, url, json=body, headers=headers)
        try:
            async with sent as response:
                return response.status, await response.text()
        except TimeoutError:
            return 408, "no answer in time (--timeout)"
        except aiohttp.ClientError as error:
            raise TargetError(f"{url}: {error}") from error


def _filled(result: Result, answer: dict[str, Any], seconds: float) -> Result:
    texts = [choice["message"]["content"] or "" for choice in answer["choices"]]
    steps = answer.get("orchestration", {}).get("steps", ())
    return msgspec.structs.replace(
        result,
        texts=texts,
        tokens=answer["usage"]["completion_tokens"],
        seconds=seconds,
        versions=sorted({step["version"] for step in steps}),
        error="",
    )
