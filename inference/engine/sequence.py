"""The engine's view of one generation: token ids, counters, text not yet emitted."""

import codecs
from enum import Enum
from typing import Any

import msgspec

from inference.engine.stop_matcher import StopMatcher
from inference.messages import Delta, Generation, Timings, TokenLogprob, Usage

NO_SLOT = -1


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One generation inside the engine.

    ``token_ids`` are prompt and output together; the first ``computed_tokens`` of them are in the
    KV cache under ``sequence_id``. The others are pending: a part of the prompt, or the token
    sampled last. A preempted sequence, or one continued after its host died, differs from a new
    one only in having output already.
    """

    def __init__(self, generation: Generation, arrival: int, now: float) -> None:
        self.generation = generation
        self.arrival = arrival
        self.status = Status.WAITING
        self.token_ids = [*generation.prompt_token_ids, *generation.emitted_token_ids]
        self.computed_tokens = 0
        self.cached_tokens = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.computed_prompt_tokens = 0
        self.device_seconds = 0.0
        # The KV cache sets these for the scheduler. While the sequence waits: the length of the
        # beginning that it can share, and its tokens that running sequences do not hold.
        self.shareable_tokens = 0
        self.unpinned_tokens = len(self.token_ids)
        # While it runs: cells that are free without it, once all of lower rank have gone.
        self.own_cells = 0
        self.sequence_id = NO_SLOT
        self.sampler: Any = None
        self.cancelled = False
        self.started = generation.emitted_frames > 0
        self.submitted_at = now
        self.first_token_at: float | None = None
        # Incremental: a character waits for its remaining bytes; invalid bytes become U+FFFD.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = StopMatcher(generation.stop)
        self._decoded_characters = 0
        self._emitted_characters = 0
        self._held_logprobs: list[tuple[int, TokenLogprob]] = []

    @property
    def id(self) -> str:
        return self.generation.id

    @property
    def output_tokens(self) -> int:
        """Tokens sampled so far, on this host and on any before it."""
        return len(self.token_ids) - len(self.generation.prompt_token_ids)

    @property
    def pending_tokens(self) -> int:
        return len(self.token_ids) - self.computed_tokens

    @property
    def remaining_tokens(self) -> int:
        return self.generation.max_tokens - self.output_tokens

    @property
    def is_decoding(self) -> bool:
        """Whether only the token sampled last is pending."""
        return self.is_stepping and self.pending_tokens == 1

    @property
    def priority(self) -> int:
        return self.generation.priority

    @property
    def prefill_end(self) -> int:
        """Up to where many tokens may be computed in one step."""
        # A greedy generation continued after its host died repeats its steps one by one: computed
        # as one chunk, its tokens would be rounded differently and the text could change.
        if self.generation.emitted_token_ids and self.generation.sampling.temperature == 0:
            return len(self.generation.prompt_token_ids)
        return len(self.token_ids)

    @property
    def is_stepping(self) -> bool:
        """Whether it computes one token a step: the last one, or those repeated one by one."""
        if self.sequence_id == NO_SLOT or self.output_tokens == 0:
            return False
        return self.pending_tokens == 1 or self.computed_tokens >= self.prefill_end

    @property
    def stop_matched(self) -> bool:
        return self._stops.matched

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: higher priority first, then the older."""
        return (-self.generation.priority, self.arrival)

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=len(self.generation.prompt_token_ids),
            completion_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
            computed_prompt_tokens=self.computed_prompt_tokens,
            computed_completion_tokens=self.output_tokens - len(self.generation.emitted_token_ids),
        )

    def timings(self, now: float) -> Timings:
        """The times of the phases, if the sequence ends at ``now``."""
        first = self.first_token_at or now
        return Timings(
            prefill_seconds=first - self.submitted_at,
            decode_seconds=now - first,
            device_seconds=self.device_seconds,
        )

    def add_computed(self, count: int) -> None:
        """Note that the next ``count`` pending tokens have been computed."""
        prompt_left = len(self.generation.prompt_token_ids) - self.computed_tokens
        if prompt_left > 0:
            self.computed_prompt_tokens += min(count, prompt_left)
        self.computed_tokens += count

    def replay(self, piece: bytes) -> None:
        """Update the text state with a token that the client already has."""
        text = self._utf8.decode(piece)
        self._decoded_characters += len(text)
        self._emitted_characters += len(self._stops.feed(text))

    def emit(self, token_id: int, piece: bytes, logprob: TokenLogprob | None) -> Delta:
        """Add a sampled token; return its frame with the text that may be shown now."""
        text = self._utf8.decode(piece)
        if logprob is not None:
            logprob = msgspec.structs.replace(logprob, text_offset=self._decoded_characters)
            self._held_logprobs.append((self._decoded_characters + len(text), logprob))
        self._decoded_characters += len(text)
        shown = self._stops.feed(text)
        self._emitted_characters += len(shown)
        return Delta(text=shown, token_ids=[token_id], logprobs=self._due_logprobs())

    def flush(self) -> Delta | None:
        """Return the text still held back, when the sequence ends without a stop string."""
        if self.stop_matched:
            return None
        tail = self._utf8.decode(b"", final=True)
        self._decoded_characters += len(tail)
        text = self._stops.feed(tail) + self._stops.flush()
        self._emitted_characters += len(text)
        logprobs = self._due_logprobs()
        return Delta(text=text, token_ids=[], logprobs=logprobs) if text or logprobs else None

    def _due_logprobs(self) -> list[TokenLogprob]:
        due = [lp for end, lp in self._held_logprobs if end <= self._emitted_characters]
        if due:
            self._held_logprobs = self._held_logprobs[len(due) :]
        return due
