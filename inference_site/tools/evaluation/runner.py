"""Asks a running service for the answers of all arms."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from inference.orchestration.modes.panel import MERGE
from inference_site.tools.bench.target import Target, TargetError
from inference_site.tools.evaluation.items import Item
from inference_site.tools.evaluation.results import Result, Results

SINGLE, GREEDY, PANEL, PLACEBO = "single", "greedy", "panel", "placebo"
# As the modes have it for several members on one version, whose default may be lower.
VOTE_TEMPERATURE: Final = 0.7
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 2.0

Advance = Callable[[str, int, int], None]  # phase, done, all
_Request = tuple[str, Item, dict[str, Any]]  # arm, item, body


@dataclass(frozen=True)
class Plan:
    """A comparison; ``arms`` has the fields of each mode's requests by the name of its arm."""

    target: Target
    items: Sequence[Item]
    arms: Mapping[str, Mapping[str, Any]]
    seed: int
    concurrency: int
    votes: int

    def body(self, item: Item, block: str = "", **fields: Any) -> dict[str, Any]:
        """The request for an item, with a block after its prompt."""
        prompt = f"{item.prompt}\n\n{block}" if block else item.prompt
        messages = [{"role": "user", "content": prompt}]
        known = {"model": self.target.model, "messages": messages, "seed": self.seed}
        return known | item.fields | fields


class Client:
    """Sends requests to the service of a target.

    Raises:
        TargetError: by its methods, if the service cannot be reached.
    """

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session, self._target = session, target

    async def version(self) -> str:
        """The version of the target's model that answers; it must be there."""
        status, content = await self._fetch("GET", f"/models/{self._target.model}")
        if status != 200:
            raise TargetError(f"{self._target.model}: {status} {content}")
        return str(json.loads(content)["version"])

    async def answer(self, arm: str, item: Item, body: dict[str, Any]) -> Result:
        """The answer to a request; one that failed for the moment is asked for again."""
        error = ""
        for number in range(_TRIES):
            await asyncio.sleep(_PAUSE_SECONDS * bool(number))
            began = time.perf_counter()
            try:
                status, content = await self._fetch("POST", "/chat/completions", body)
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as lost:
                error = str(lost)
                continue
            if status == 200:
                return _result(arm, item, json.loads(content), time.perf_counter() - began)
            error = f"{status} {content[:300]}"
            if status < 500 and status != 429:
                break
        return Result(arm, item.id, error=error)

    async def _fetch(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        url, headers = self._target.url(path), {"Authorization": f"Bearer {self._target.api_key}"}
        try:
            sent = self._session.request(method, url, json=body, headers=headers)
            async with sent as response:
                return response.status, await response.text()
        except (aiohttp.ClientConnectorError, TimeoutError) as error:
            raise TargetError(f"{url}: {error or 'no answer in time'}") from error


async def collect(client: Client, plan: Plan, results: Results, advance: Advance) -> None:
    """Ask for all answers that are not there yet.

    Raises:
        TargetError: the service cannot be reached.
    """
    free = asyncio.Semaphore(plan.concurrency)
    # The answers of a panel wait in the queue one by one: a few panels fill it.
    few = asyncio.Semaphore(max(1, plan.concurrency // plan.votes))

    async def ask(arm: str, item: Item, body: dict[str, Any]) -> None:
        async with few if arm == PANEL else free:
            results.add(await client.answer(arm, item, body))

    panel = {"n": plan.votes, "temperature": VOTE_TEMPERATURE}
    direct: dict[str, Mapping[str, Any]]
    direct = {SINGLE: {}, GREEDY: {"temperature": 0}, PANEL: panel, **plan.arms}
    for phase, requests in (
        ("answers", ((a, i, plan.body(i, **f)) for i in plan.items for a, f in direct.items())),
        ("placebo", _placebos(plan, results)),
    ):
        wanted = [(a, i, b) for a, i, b in requests if not results.has(a, i.id, b.get("n", 1))]
        advance(phase, 0, len(wanted))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(*one)) for one in wanted]
                for done, task in enumerate(asyncio.as_completed(tasks), 1):
                    await task
                    advance(phase, done, len(wanted))
        except* TargetError as errors:
            raise TargetError(str(errors.exceptions[0])) from errors


def _placebos(plan: Plan, results: Results) -> Iterator[_Request]:
    """Merges of three answers to another item of the group: the next one."""
    ordered = sorted(plan.items, key=lambda item: item.group)
    for item, other in zip(ordered, [*ordered[1:], ordered[0]], strict=True):
        found = results.arm(PANEL).get(other.id)
        if found is not None and found.texts and other is not item:
            texts = zip("ABC", found.texts, strict=False)
            answers = "\n".join(f"<<<answer {x}\n{text}\nanswer {x}>>>" for x, text in texts)
            yield PLACEBO, item, plan.body(item, MERGE.format(answers=answers))


def _result(arm: str, item: Item, answer: dict[str, Any], seconds: float) -> Result:
    return Result(
        arm,
        item.id,
        [choice["message"]["content"] or "" for choice in answer["choices"]],
        answer["usage"]["completion_tokens"],
        round(seconds, 3),
        sorted({step["version"] for step in answer.get("orchestration", {}).get("steps", ())}),
    )
