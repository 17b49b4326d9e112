"""Asks a running service for the answers of all arms."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Any, Final

import aiohttp
import msgspec

from inference.orchestration.modes.panel import MERGE
from inference_site.tools.bench.target import Target, TargetError
from inference_site.tools.evaluation.items import Item
from inference_site.tools.evaluation.results import Result, Results

SINGLE, GREEDY, PANEL, PLACEBO = "single", "greedy", "panel", "placebo"
# As the modes have it for several members on one version, whose defaults are lower.
VOTE_TEMPERATURE: Final = 0.7
_TRIES: Final = 5

Advance = Callable[[str, int, int], None]  # phase, done, all


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Step(msgspec.Struct):
    version: str = ""


class _Orchestration(msgspec.Struct):
    mode: str = ""
    steps: list[_Step] = []


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage
    orchestration: _Orchestration | None = None


class _Model(msgspec.Struct):
    version: str


@dataclass(frozen=True)
class Plan:
    """The arms of a comparison.

    Attributes:
        arms: the fields of each mode's requests, by the name of the arm.
        most_votes: single answers to an item at most.
        tries_pause_seconds: before an answer is asked for again.
    """

    target: Target
    items: Sequence[Item]
    arms: Mapping[str, Mapping[str, Any]]
    seed: int
    concurrency: int
    most_votes: int
    tries_pause_seconds: float = 2.0


async def served_version(session: aiohttp.ClientSession, target: Target) -> str:
    """The version of the target's model that answers.

    Raises:
        TargetError: the service or the model is absent.
    """
    url, headers = target.url(f"/models/{target.model}"), _headers(target)
    try:
        async with session.get(url, headers=headers) as response:
            body = await response.read()
            if response.status != 200:
                raise TargetError(f"{url}: {response.status} {body[:300].decode()}")
            return msgspec.json.decode(body, type=_Model).version
    except (aiohttp.ClientError, msgspec.DecodeError) as error:
        raise TargetError(f"{url}: {error}") from error


async def collect(
    session: aiohttp.ClientSession, plan: Plan, results: Results, advance: Advance
) -> None:
    """Ask for all answers that are not there yet.

    Raises:
        TargetError: the service cannot be reached.
    """
    free = asyncio.Semaphore(plan.concurrency)
    few = asyncio.Semaphore(max(1, plan.concurrency // plan.most_votes))

    async def ask(arm: str, item: Item, body: dict[str, Any]) -> None:
        # The answers of a panel wait in the queue one by one: few panels fill it.
        async with few if body.get("n") else free:
            results.add(await _answer(session, plan, arm, item, body))

    direct = {SINGLE: {}, GREEDY: {"temperature": 0}} | dict(plan.arms)
    first = [
        (arm, item, _body(plan, item) | dict(fields))
        for item in plan.items
        for arm, fields in direct.items()
        if not results.has(arm, item.id)
    ]
    await _all(first, ask, "modes", advance)
    votes = panel_size(plan, results)
    varied = {"n": votes, "temperature": VOTE_TEMPERATURE}
    panels = [
        (PANEL, item, _body(plan, item) | varied)
        for item in plan.items
        if not results.has(PANEL, item.id, votes)
    ]
    await _all(panels, ask, f"panels of {votes}", advance)
    await _all(list(_placebos(plan, results)), ask, "placebo", advance)


def panel_size(plan: Plan, results: Results) -> int:
    """The number of single answers that take as many tokens as the longest mode, and three."""
    single = _mean_tokens(results.arm(SINGLE))
    ratios = [_mean_tokens(results.arm(arm)) / single for arm in plan.arms] if single else []
    return max(3, min(plan.most_votes, ceil(max(ratios, default=0))))


def _mean_tokens(answers: Mapping[str, Result]) -> float:
    return fmean(answer.tokens for answer in answers.values()) if answers else 0.0


def _placebos(plan: Plan, results: Results) -> Iterator[tuple[str, Item, dict[str, Any]]]:
    """Merges of three answers to another item of the group: the next one."""
    by_group: dict[str, list[Item]] = {}
    for item in plan.items:
        by_group.setdefault(item.group, []).append(item)
    for items in by_group.values():
        for item, other in zip(items, [*items[1:], items[0]], strict=True):
            found = results.arm(PANEL).get(other.id)
            if other is item or found is None or found.error or results.has(PLACEBO, item.id):
                continue
            answers = "\n".join(
                f"<<<answer {letter}\n{text}\nanswer {letter}>>>"
                for letter, text in zip("ABC", found.texts, strict=False)
            )
            prompt = f"{item.prompt}\n\n{MERGE.format(answers=answers)}"
            body = _body(plan, item)
            yield PLACEBO, item, body | {"messages": [{"role": "user", "content": prompt}]}


def _body(plan: Plan, item: Item) -> dict[str, Any]:
    messages = [{"role": "user", "content": item.prompt}]
    return {"model": plan.target.model, "messages": messages, "seed": plan.seed} | item.fields


async def _all(
    requests: Sequence[tuple[str, Item, dict[str, Any]]],
    ask: Callable[[str, Item, dict[str, Any]], Coroutine[Any, Any, None]],
    phase: str,
    advance: Advance,
) -> None:
    advance(phase, 0, len(requests))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(*request)) for request in requests]
            for done, task in enumerate(asyncio.as_completed(tasks), 1):
                await task
                advance(phase, done, len(requests))
    except* TargetError as errors:
        raise TargetError(str(errors.exceptions[0])) from errors


async def _answer(
    session: aiohttp.ClientSession, plan: Plan, arm: str, item: Item, body: dict[str, Any]
) -> Result:
    """The answer to a request; one that failed for the moment is asked for again."""
    url, headers = plan.target.url("/chat/completions"), _headers(plan.target)
    error = ""
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(plan.tries_pause_seconds)
        began = time.perf_counter()
        try:
            async with session.post(url, json=body, headers=headers) as response:
                content = await response.read()
        except aiohttp.ClientConnectorError as refused:
            raise TargetError(f"{url}: {refused}") from refused
        except (aiohttp.ClientError, TimeoutError) as lost:
            error = str(lost) or type(lost).__name__
            continue
        if response.status == 200:
            return _result(arm, item, content, time.perf_counter() - began)
        error = f"{response.status} {content[:300].decode(errors='replace')}"
        if response.status < 500 and response.status != 429:
            break
    return Result(arm, item.id, error=error)


def _result(arm: str, item: Item, content: bytes, seconds: float) -> Result:
    try:
        answer = msgspec.json.decode(content, type=_Answer)
    except msgspec.DecodeError as error:
        return Result(arm, item.id, error=str(error))
    run = answer.orchestration or _Orchestration()
    return Result(
        arm,
        item.id,
        [choice.message.content or "" for choice in answer.choices],
        answer.usage.completion_tokens,
        round(seconds, 3),
        run.mode,
        sorted({step.version for step in run.steps}),
        any(choice.finish_reason == "partial" for choice in answer.choices),
    )


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
