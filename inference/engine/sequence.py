"""The engine's view of one generation: token ids, counters, text not yet released."""

from enum import Enum
from typing import Any

import msgspec

from inference.engine.detokenizer import Detokenizer
from inference.engine.stop_matcher import StopMatcher
from inference.messages import Delta, Generation, TokenLogprob, Usage

NO_SLOT = -1


class Status(Enum):
    """Where a sequence is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One generation inside the engine.

    ``token_ids`` are prompt and output together; the first ``computed_tokens`` of them are in the
    KV cache under ``sequence_id``. What is not computed is pending: a chunk of prompt, or the one
    token sampled last. A pre-empted sequence, and one continued after its host died, differ from a
    new one only in having output already.

    What the KV cache could do for it is noted here for the scheduler: while it waits,
    ``shareable_tokens`` of its beginning are in the cache, and all but ``unpinned_tokens`` are held
    by running sequences; while it runs, ``own_cells`` would be free without it, once all that rank
    below it have gone.
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
        self.shareable_tokens = 0
        self.unpinned_tokens = len(self.token_ids)
        self.own_cells = 0
        self.sequence_id = NO_SLOT
        self.sampler: Any = None
        self.cancelled = False
        self.started = generation.emitted_frames > 0
        self.submitted_at = now
        self.first_token_at: float | None = None
        self._detokenizer = Detokenizer()
        self._stops = StopMatcher(generation.stop)
        self._decoded_characters = 0
        self._released_characters = 0
        self._held_logprobs: list[tuple[int, TokenLogprob]] = []

    @property
    def id(self) -> str:
        """The generation's id."""
        return self.generation.id

    @property
    def output_tokens(self) -> int:
        """Tokens sampled so far, on this host and on any before it."""
        return len(self.token_ids) - len(self.generation.prompt_token_ids)

    @property
    def pending_tokens(self) -> int:
        """Tokens that must go through the model before the next can be sampled."""
        return len(self.token_ids) - self.computed_tokens

    @property
    def remaining_tokens(self) -> int:
        """Tokens it may still gain."""
        return self.generation.max_tokens - self.output_tokens

    @property
    def is_decoding(self) -> bool:
        """Only the token sampled last is pending: the next step gives another."""
        return self.is_stepping and self.pending_tokens == 1

    @property
    def priority(self) -> int:
        """1 low to 3 high."""
        return self.generation.priority

    @property
    def prefill_end(self) -> int:
        """Up to where tokens may be computed many at a time.

        A greedy generation continued after its host died goes again through the very steps that
        it took: computed as one chunk its tokens would round differently, and the text could take
        another turn.
        """
        if self.generation.emitted_token_ids and self.generation.sampling.temperature == 0:
            return len(self.generation.prompt_token_ids)
        return len(self.token_ids)

    @property
    def is_stepping(self) -> bool:
        """Computes a single token a step: the one sampled last, or one to go through again."""
        if self.sequence_id == NO_SLOT or self.output_tokens == 0:
            return False
        return self.pending_tokens == 1 or self.computed_tokens >= self.prefill_end

    @property
    def stop_matched(self) -> bool:
        """A stop string has ended the text."""
        return self._stops.matched

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: higher priority first, then the older."""
        return (-self.generation.priority, self.arrival)

    @property
    def usage(self) -> Usage:
        """Tokens of the generation so far."""
        return Usage(
            prompt_tokens=len(self.generation.prompt_token_ids),
            completion_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            drafted_tokens=self.drafted_tokens,
            accepted_tokens=self.accepted_tokens,
        )

    def replay(self, piece: bytes) -> None:
        """Bring text state up to date with a token the client already has."""
        self._release(self._detokenizer.feed(piece))

    def release(self, token_id: int, piece: bytes, logprob: TokenLogprob | None) -> Delta:
        """Take a sampled token; return its frame with the text that may be shown now."""
        text = self._detokenizer.feed(piece)
        if logprob is not None:
            logprob = msgspec.structs.replace(logprob, text_offset=self._decoded_characters)
            self._held_logprobs.append((self._decoded_characters + len(text), logprob))
        self._decoded_characters += len(text)
        shown = self._stops.feed(text)
        self._released_characters += len(shown)
        return Delta(text=shown, token_ids=[token_id], logprobs=self._due_logprobs())

    def flush(self) -> Delta | None:
        """The text still held back, when the sequence ends without a stop string."""
        if self.stop_matched:
            return None
        tail = self._detokenizer.flush()
        self._decoded_characters += len(tail)
        text = self._stops.feed(tail) + self._stops.flush()
        self._released_characters += len(text)
        logprobs = self._due_logprobs()
        return Delta(text=text, token_ids=[], logprobs=logprobs) if text or logprobs else None

    def _release(self, text: str) -> None:
        self._decoded_characters += len(text)
        self._released_characters += len(self._stops.feed(text))

    def _due_logprobs(self) -> list[TokenLogprob]:
        """Log-probabilities of tokens whose text has been shown in full."""
        due = [lp for end, lp in self._held_logprobs if end <= self._released_characters]
        if due:
            self._held_logprobs = self._held_logprobs[len(due) :]
        return due
