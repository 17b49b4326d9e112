"""A run: the answer to one order, as numbered frames of one or more choices."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from inference.errors import InferenceError, error_from_code
from inference.messages import (
    Delta,
    Failed,
    Finished,
    Frame,
    Kind,
    RunHeader,
    Usage,
    Vectors,
)
from inference.orders.order import Order
from inference.principal import Principal
from inference.request_id import current_run_id

TIERS: Final = ("semantic", "retyped", "exact", "flight")
"""Caches that answer, the least certain first."""

_PREFIXES: dict[Kind, str] = {"chat": "chatcmpl-", "completion": "cmpl-", "embedding": "embd-"}


def new_run_id(kind: Kind) -> str:
    """An id in OpenAI's style that nobody can guess."""
    return _PREFIXES[kind] + secrets.token_hex(12)


def header_of(order: Order, principal: Principal) -> RunHeader:
    """The header of an order's answer; with a new id unless the order has one."""
    return RunHeader(
        id=order.run_id or new_run_id(order.kind),
        kind=order.kind,
        user_id=principal.user_id,
        model=order.cast.name if order.cast else order.spec.model_slug,
        version_key=order.spec.version_key,
        created_unix_seconds=int(time.time()),
        choices=order.choices,
        choices_per_prompt=order.n,
        include_usage=order.include_usage,
        with_logprobs=order.top_logprobs is not None,
        call_syntax=order.call_syntax,
        deprecation=order.spec.deprecation,
        attempt=order.attempt,
        mode=order.cast.mode if order.cast else "",
    )


@dataclass(frozen=True)
class CacheNote:
    """How caches took part in an answer.

    Attributes:
        status: the tier that has answered all of it, ``miss``, or ``bypass;`` with a reason; "" for
            answers that no cache is for.
        key: of the entry, for people who look it up.
        age_seconds: of the entry.
        similarity: cosine of the two questions, if they differ in their words.
    """

    status: str = ""
    key: str = ""
    age_seconds: float = 0.0
    similarity: float | None = None

    @property
    def tier(self) -> str:
        """The tier, for the ledger; "" where a model was at work."""
        return self.status if self.status in TIERS else ""


@dataclass
class ChoiceState:
    """Reading position of a choice, and its last frame once it is over."""

    position: int = 0
    finished: Finished | None = None
    failed: Failed | None = None

    def take(self, number: int, frame: Frame) -> None:
        """Note a frame that was read."""
        self.position = number
        if isinstance(frame, Finished):
            self.finished = frame
        elif isinstance(frame, Failed):
            self.failed = frame

    @property
    def is_over(self) -> bool:
        """Whether the last frame was read."""
        return self.finished is not None or self.failed is not None


class Run(ABC):
    """A reader of all choices of an answer, in the order in which their frames arrive.

    Frames of a choice are numbered from 1 without gaps; the last is ``Finished`` or ``Failed``.

    Args:
        header: of the run.
        after: number of the last frame that the reader has, per choice. An answer with calls of
            tools is read from its start all the same, since the text before tells how to read
            the rest; ``is_new`` then tells which frames to send.
    """

    def __init__(self, header: RunHeader, after: Sequence[int] = ()) -> None:
        self.header = header
        self.after = list(after) or [0] * header.choices
        start = [0] * header.choices if header.call_syntax else self.after
        self.choices = [ChoiceState(position) for position in start]
        self.error_code = ""
        self.cache = CacheNote()
        self.began_at = time.monotonic()
        self.first_token_at: float | None = None
        current_run_id.set(header.id)
        self._next: tuple[int, int, Frame] | None = None

    @abstractmethod
    async def _receive(self, within: float | None) -> tuple[int, int, Frame] | None:
        """The next (choice, number, frame); None when none came ``within`` seconds."""

    @abstractmethod
    async def stop(self) -> bool:
        """End all choices soon, with a last frame each; False when all had ended."""

    async def settle(self) -> None:
        """End all choices and read their last frames, so that usage is known."""
        await self.stop()
        async for _ in self.frames():
            pass

    async def loading(self) -> float | None:
        """The loaded share (0 to 1) of a model that is on its way into memory, or None."""
        return None

    async def peek(self, within: float | None = None) -> Frame | None:
        """The frame that ``next`` will give; None when none came ``within`` seconds."""
        if self._next is None:
            self._next = await self._receive(within)
        return self._next and self._next[2]

    async def next(self, within: float | None = None) -> tuple[int, Frame] | None:
        """The next (choice, frame), or None when none came ``within`` seconds.

        Call it only while the run is not over. A ``Failed`` frame is returned, not raised.

        Raises:
            InferenceError: nothing came in the time a request has, or the answer was lost.
        """
        if self._next is None:
            self._next = await self._receive(within)
        return None if self._next is None else self._take(self._next)

    def _take(self, entry: tuple[int, int, Frame]) -> tuple[int, Frame]:
        choice, number, frame = entry
        self._next = None
        if self.first_token_at is None and isinstance(frame, (Delta, Vectors)):
            self.first_token_at = time.monotonic()
        self.choices[choice].take(number, frame)
        return choice, frame

    async def frames(self) -> AsyncIterator[tuple[int, Frame]]:
        """(choice, frame) until the run is over. Raises as ``next``."""
        while not self.is_over:
            entry = await self.next()
            if entry is not None:
                yield entry

    @property
    def is_over(self) -> bool:
        """Whether the last frame of each choice was read."""
        return all(choice.is_over for choice in self.choices)

    def is_new(self, choice: int) -> bool:
        """Whether the frame just read of a choice is one that the reader did not have."""
        return self.choices[choice].position > self.after[choice]

    @property
    def positions(self) -> list[int]:
        """Number of the last frame that the reader has, per choice."""
        pairs = zip(self.choices, self.after, strict=True)
        return [max(choice.position, seen) for choice, seen in pairs]

    @property
    def usage(self) -> Usage:
        """Tokens of all choices together; a prompt counts once however many answers it has."""
        ends = [choice.finished and choice.finished.usage for choice in self.choices]
        firsts = [usage for usage in ends[:: self.header.choices_per_prompt] if usage]
        return Usage(
            prompt_tokens=sum(usage.prompt_tokens for usage in firsts),
            completion_tokens=sum(usage.completion_tokens for usage in ends if usage),
            cached_tokens=sum(usage.cached_tokens for usage in firsts),
            drafted_tokens=sum(usage.drafted_tokens for usage in ends if usage),
            accepted_tokens=sum(usage.accepted_tokens for usage in ends if usage),
            hidden_tokens=sum(usage.hidden_tokens for usage in ends if usage),
        )


def failure_of(failed: Failed) -> InferenceError:
    """The error that a ``Failed`` frame stands for."""
    return error_from_code(failed.code, failed.message, failed.retry_after_seconds)
