"""One client request while it runs: its generations, their frames, and its ending."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import redis

from inference.errors import (
    InferenceError,
    QueueTimeoutError,
    TemporaryResourceError,
    error_from_code,
)
from inference.messages import Failed, Finished, Frame, Usage
from inference.queue.queue import Queue
from inference.request_id import current_request_id
from inference.streams.reader import Followed, StreamReader

Kind = Literal["chat", "completion", "embedding"]
_PREFIXES: dict[Kind, str] = {"chat": "chatcmpl-", "completion": "cmpl-", "embedding": "embd-"}

# How long a stopped run is given to say what it had generated.
SETTLE_SECONDS = 20.0
STOP_RETRY_SECONDS = 0.5


def new_run_id(kind: Kind) -> str:
    """An id in OpenAI's style that nobody can guess."""
    return _PREFIXES[kind] + secrets.token_hex(12)


@dataclass(frozen=True)
class RunHeader:
    """What is known of a run from its beginning; kept in Redis for resume and stop.

    ``call_syntax`` is how its answers write calls of tools, encoded; empty where there are none.
    ``deprecation`` is what is to be said of its version, empty where that is not deprecated.
    """

    id: str
    kind: Kind
    user_id: int
    model: str
    version_key: str
    created_unix_seconds: int
    choices: int
    choices_per_prompt: int = 1
    include_usage: bool = False
    with_logprobs: bool = False
    call_syntax: str = ""
    deprecation: str = ""

    @property
    def item_ids(self) -> list[str]:
        """Ids of the run's generations, in the order of its choices."""
        return [f"{self.id}.{index}" for index in range(self.choices)]


@dataclass
class ChoiceOutcome:
    """How one generation of a run ended, as far as it has."""

    finished: Finished | None = None
    failed: Failed | None = None
    position: int = 0
    ended_early: bool = False

    def take(self, frame: Frame) -> None:
        """Note a last frame."""
        if isinstance(frame, Finished):
            self.finished = frame
        elif isinstance(frame, Failed):
            self.failed = frame

    @property
    def is_over(self) -> bool:
        """Its last frame has been seen."""
        return self.finished is not None or self.failed is not None


@dataclass
class Run:
    """A reader of all of a run's generations together.

    Args:
        header: which run.
        reader, queue: this process's streams and queue.
        first_frame_seconds, total_seconds: how long to wait for the first frame, and for all.
        after: number of the last frame already seen, per choice. Where answers may have calls,
            what was seen is read again all the same, since only all of it tells what follows.
        ends_early: answers True to a choice and its frame to stop that choice.
    """

    header: RunHeader
    reader: StreamReader
    queue: Queue
    first_frame_seconds: float
    total_seconds: float
    after: list[int] = field(default_factory=list)
    outcomes: list[ChoiceOutcome] = field(default_factory=list)
    first_frame_at: float | None = None
    error_code: str = ""
    ended: bool = False
    ends_early: Callable[[int, Frame], bool] | None = None
    began_at: float = field(default_factory=time.monotonic)
    request_id: str = field(default_factory=current_request_id.get)

    def __post_init__(self) -> None:
        nothing = [0] * self.header.choices
        self.after = self.after or nothing
        positions = nothing if self.header.call_syntax else self.after
        self.outcomes = [ChoiceOutcome(position=position) for position in positions]
        self._stack = AsyncExitStack()
        self._followed: Followed | None = None

    async def open(self) -> None:
        """Begin to follow the generations' streams; those read to their end already are over."""
        seen = {
            item_id: outcome
            for item_id, outcome in zip(self.header.item_ids, self.outcomes, strict=True)
            if outcome.position
        }
        for item_id, (number, frame) in (await self.reader.last_frames(list(seen))).items():
            if number <= seen[item_id].position:
                seen[item_id].take(frame)
        positions = {
            item_id: outcome.position
            for item_id, outcome in zip(self.header.item_ids, self.outcomes, strict=True)
            if not outcome.is_over
        }
        self._followed = await self._stack.enter_async_context(self.reader.follow(positions))

    async def close(self) -> None:
        """Stop following."""
        await self._stack.aclose()
        self._followed = None

    async def frames(
        self, idle_seconds: float | None = None
    ) -> AsyncIterator[tuple[int, Frame] | None]:
        """(choice, frame) as they come, until every choice is over.

        Args:
            idle_seconds: yield None when nothing came for so long, for heartbeats.

        Raises:
            InferenceError: nothing came in time, or the streams were lost. A ``Failed`` frame is
                not raised but yielded.
        """
        while not all(outcome.is_over for outcome in self.outcomes):
            entry = await self._next(idle_seconds)
            if entry is not None and self.ends_early is not None and self.ends_early(*entry):
                self.outcomes[entry[0]].ended_early = True
                item_id = self.header.item_ids[entry[0]]
                await self.queue.cancel(self.header.version_key, item_id)
            yield entry

    def is_new(self, choice: int) -> bool:
        """Whether the last frame of a choice is one that the reader has not seen before."""
        return self.outcomes[choice].position > self.after[choice]

    @property
    def positions(self) -> list[int]:
        """Number of the last frame that the reader has, per choice."""
        return [
            max(outcome.position, seen)
            for outcome, seen in zip(self.outcomes, self.after, strict=True)
        ]

    @property
    def usage(self) -> Usage:
        """Tokens of all choices together; a prompt counts once however many answers it has."""
        ends = [outcome.finished and outcome.finished.usage for outcome in self.outcomes]
        firsts = [usage for usage in ends[:: self.header.choices_per_prompt] if usage]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in firsts),
            completion_tokens=sum(usage.completion_tokens for usage in ends if usage),
            cached_tokens=sum(usage.cached_tokens for usage in firsts),
            drafted_tokens=sum(usage.drafted_tokens for usage in ends if usage),
            accepted_tokens=sum(usage.accepted_tokens for usage in ends if usage),
        )

    async def stop(self) -> bool:
        """Stop what still runs; False when all had ended."""
        stopped = [
            await self.queue.cancel(self.header.version_key, item_id)
            for item_id, outcome in zip(self.header.item_ids, self.outcomes, strict=True)
            if not outcome.is_over
        ]
        return any(stopped)

    async def settle_unread(self) -> None:
        """Stop everything without waiting for what becomes of it."""
        async with asyncio.timeout(SETTLE_SECONDS):
            await self._stop_surely()

    async def settle(self) -> None:
        """Stop what still runs and wait for its last frame, so that usage is known."""
        if all(outcome.is_over for outcome in self.outcomes):
            return
        async with asyncio.timeout(SETTLE_SECONDS):
            await self._stop_surely()
            while not all(outcome.is_over for outcome in self.outcomes):
                self._take(await self._require_followed().next())

    async def _stop_surely(self) -> None:
        """``stop``, however long Redis is away."""
        while True:
            try:
                await self.stop()
                return
            except (redis.ConnectionError, redis.TimeoutError):
                await asyncio.sleep(STOP_RETRY_SECONDS)

    async def _next(self, idle_seconds: float | None) -> tuple[int, Frame] | None:
        now = time.monotonic()
        limit = self.total_seconds
        if self.first_frame_at is None:
            limit = min(limit, self.first_frame_seconds)
        remaining = self.began_at + limit - now
        wait = remaining if idle_seconds is None else min(remaining, idle_seconds)
        try:
            async with asyncio.timeout(max(0.0, wait)):
                entry = await self._require_followed().next()
        except TimeoutError:
            if time.monotonic() < self.began_at + limit:
                return None
            late = self._late()
            self.error_code = late.code
            raise late from None
        return self._take(entry)

    def _take(self, entry: tuple[str, int, Frame]) -> tuple[int, Frame]:
        item_id, number, frame = entry
        if self.first_frame_at is None:
            self.first_frame_at = time.monotonic()
        choice = int(item_id.rpartition(".")[2])
        outcome = self.outcomes[choice]
        if outcome.ended_early and isinstance(frame, Finished) and frame.reason == "cancelled":
            frame = msgspec.structs.replace(frame, reason="stop")
        outcome.position = number
        outcome.take(frame)
        return choice, frame

    def _late(self) -> InferenceError:
        if self.first_frame_at is None:
            return QueueTimeoutError(
                f"The request was not started within {self.first_frame_seconds:g} s. "
                "Try again later.",
                retry_after_ms=5000,
            )
        return TemporaryResourceError(
            f"The request did not finish within {self.total_seconds:g} s. Ask for fewer tokens.",
            code="request_timeout",
        )

    def _require_followed(self) -> Followed:
        if self._followed is None:
            raise RuntimeError("the run is not open")
        return self._followed


def failure_of(failed: Failed) -> InferenceError:
    """The error that a ``Failed`` frame stands for."""
    return error_from_code(failed.code, failed.message, failed.retry_after_seconds)
