"""Runs one load against one server."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import aiohttp

from inference_site.tools.bench import plan
from inference_site.tools.bench.client import CompletionClient, CompletionRequest
from inference_site.tools.bench.load import Background, Load
from inference_site.tools.bench.observation import Failure, Observation
from inference_site.tools.bench.plan import Conversation, PlanKey
from inference_site.tools.bench.swapping import Swapping
from inference_site.tools.bench.target import Target


@dataclass(slots=True)
class LiveCounts:
    """Counts of a run for a progress display."""

    phase: str = "warm-up"
    done: int = 0
    failed: int = 0
    pieces: int = 0
    started_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of one run.

    Args:
        observations: one for each measured request, including failed ones.
        background_failures: of background generations.
        warmup_failures: of warm-up requests.
        load_seconds: of each load of a swapped model, to its first answer.
        duration_seconds: from the first request to the end of the last answer.
        client_cpu_seconds: CPU time of this process during the run.
    """

    observations: list[Observation]
    background_failures: list[Failure] = field(default_factory=list)
    warmup_failures: list[Failure] = field(default_factory=list)
    duration_seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    load_seconds: list[float] = field(default_factory=list)


class LoadRun:
    """One run of a load on a server.

    Args:
        session: its connections.
        target: the server.
        load: the requests.
        key: the source of the prompts.
        counts: updated during the run.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        load: Load,
        key: PlanKey,
        counts: LiveCounts,
    ) -> None:
        self._client = CompletionClient(session, target)
        swapped = load.swapped_models if target.swaps_models else ()
        self._swapping = Swapping(session, target, swapped)
        self._load = load
        self._key = key
        self._counts = counts
        self._observations: list[Observation] = []
        self._background_failures: list[Failure] = []
        self._background_steady = asyncio.Event()

    async def run(self, *, warm_up: bool = True) -> RunResult:
        """Send the warm-up requests, then the load; wait for all answers."""
        warmup_failures = await self._warm_up() if warm_up else []
        conversations = plan.conversations(self._load, self._key)
        async with asyncio.TaskGroup() as group:
            background = await self._start_background(group)
            if self._swapping.models:
                background.append(group.create_task(self._swapping.run()))
            self._counts.phase = "measuring"
            cpu_before = time.process_time()
            self._counts.started_seconds = started = time.perf_counter()
            if self._load.concurrency is not None:
                await self._closed_loop(conversations, self._load.concurrency)
            else:
                await self._open_loop(conversations, started)
            ended = time.perf_counter()
            cpu_seconds = time.process_time() - cpu_before
            for task in background:
                task.cancel()
        await self._swapping.clear()
        return RunResult(
            self._observations,
            [*self._background_failures, *self._swapping.failures],
            warmup_failures,
            ended - started,
            cpu_seconds,
            self._swapping.load_seconds,
        )

    async def _warm_up(self) -> list[Failure]:
        """Send the warm-up requests, with at most the concurrency of the load."""
        limit = asyncio.Semaphore(self._load.concurrency or 1)

        async def send(conversation: Conversation) -> Observation:
            async with limit:
                return await self._ask(self._messages(conversation), time.perf_counter(), 0, None)

        sent = await asyncio.gather(
            *(send(item) for item in plan.warmup_conversations(self._load, self._key))
        )
        return [item.failure for item in sent if item.failure is not None]

    async def _closed_loop(self, conversations: list[Conversation], concurrency: int) -> None:
        """Run ``concurrency`` conversations at a time; the next starts when one ends."""
        waiting = iter(conversations)

        async def user() -> None:
            for conversation in waiting:
                await self._converse(conversation, None)

        async with asyncio.TaskGroup() as users:
            for _ in range(min(concurrency, len(conversations))):
                users.create_task(user())

    async def _open_loop(self, conversations: list[Conversation], started: float) -> None:
        """Start each conversation at its time, however many are running."""

        async def user(conversation: Conversation, due: float) -> None:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._converse(conversation, due)

        async with asyncio.TaskGroup() as users:
            for conversation in conversations:
                users.create_task(user(conversation, started + (conversation.arrival_seconds or 0)))

    async def _converse(self, conversation: Conversation, due: float | None) -> None:
        """Send all turns of a conversation; after a failure the remaining turns fail, too."""
        messages = self._messages(conversation)
        for turn, _ in enumerate(conversation.user_messages):
            if turn:
                messages.append(_message("user", conversation.user_messages[turn]))
            started = due if due is not None and not turn else time.perf_counter()
            seen = await self._ask(messages, started, turn, self._count_piece)
            self._record(seen)
            if seen.failure is not None:
                for _ in conversation.user_messages[turn + 1 :]:
                    unsent = Failure("not_sent", "an earlier turn of the conversation failed")
                    self._record(replace(seen, arrivals=[], usage=None, failure=unsent))
                return
            messages.append(_message("assistant", seen.text))

    def _messages(self, conversation: Conversation) -> list[dict[str, str]]:
        return [
            _message("system", conversation.system),
            _message("user", conversation.user_messages[0]),
        ]

    async def _ask(
        self,
        messages: list[dict[str, str]],
        started_seconds: float,
        turn: int,
        on_text: Callable[[str], None] | None,
    ) -> Observation:
        load = self._load
        seen = Observation(
            started_seconds,
            requested_prompt_tokens=load.requested_prompt_tokens(turn),
            requested_output_tokens=load.output_tokens,
        )
        request = CompletionRequest(
            messages,
            load.output_tokens,
            load.temperature,
            load.endpoint,
            load.stream,
            load.priority,
        )
        await self._client.complete(request, seen, on_text)
        return seen

    def _record(self, seen: Observation) -> None:
        self._observations.append(seen)
        self._counts.done += 1
        self._counts.failed += seen.failure is not None

    def _count_piece(self, _: str) -> None:
        self._counts.pieces += 1

    async def _start_background(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start the background and wait until its first generation has ended."""
        background = self._load.background
        if background is None:
            return []
        self._counts.phase = "background"
        source = plan.background_conversations(background.prompt_tokens, self._key)
        tasks = [
            group.create_task(self._keep_generating(background, source, index))
            for index in range(background.concurrency)
        ]
        await self._background_steady.wait()
        return tasks

    async def _keep_generating(
        self, background: Background, source: Iterator[Conversation], index: int
    ) -> None:
        lengths = self._key.stream(f"background-lengths-{index}")
        while True:
            request = CompletionRequest(
                self._messages(next(source)),
                lengths.randint(max(1, background.output_tokens // 2), background.output_tokens),
                self._load.temperature,
                self._load.endpoint,
                priority=background.priority,
            )
            seen = Observation(time.perf_counter())
            await self._client.complete(request, seen)
            self._background_steady.set()
            if seen.failure is not None:
                self._background_failures.append(seen.failure)
                return


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
