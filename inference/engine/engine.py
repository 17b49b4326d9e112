"""The engine: takes generations, runs steps, gives frames."""

import time
from collections.abc import Callable

from inference.engine.backend import Backend, BackendError, DecodeOutcome, Span
from inference.engine.config import EngineConfig
from inference.engine.logprobs import token_logprob
from inference.engine.scheduler import StepPlan, schedule
from inference.engine.sequence import NO_SLOT, Sequence, Status
from inference.messages import (
    Failed,
    Finished,
    FinishReason,
    Frame,
    Generation,
    Started,
    Timings,
)

Output = tuple[str, Frame]


class Engine:
    """Runs many generations together on one backend, a step at a time.

    Used by one thread. ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        backend: Backend,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.config = config
        self._clock = clock
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._by_id: dict[str, Sequence] = {}
        self._free_ids = list(range(config.max_sequences - 1, -1, -1))
        self._arrivals = 0
        self._cache_is_full = False
        self.step_tokens_in_flight = 0

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._by_id

    @property
    def running_sequences(self) -> int:
        """Sequences that hold KV cells."""
        return len(self._running)

    @property
    def waiting_sequences(self) -> int:
        """Sequences submitted or pre-empted that hold none."""
        return len(self._waiting)

    @property
    def used_cells(self) -> int:
        """KV cells in use by running sequences."""
        return sum(sequence.computed_tokens for sequence in self._running)

    def submit(self, generation: Generation) -> list[Output]:
        """Queue a generation for the next steps.

        Returns:
            Nothing, or the failure of a generation that this engine could never hold.
        """
        total = len(generation.prompt_token_ids) + generation.max_tokens
        if not generation.prompt_token_ids or total > self.config.kv_cells:
            message = (
                f"The prompt of {len(generation.prompt_token_ids)} tokens and "
                f"{generation.max_tokens} new tokens need between 1 and {self.config.kv_cells} "
                "KV cells. Shorten the prompt or ask for fewer tokens."
            )
            return [(generation.id, Failed("context_length_exceeded", message))]
        sequence = Sequence(generation, self._arrivals, self._clock())
        self._arrivals += 1
        for token_id in generation.emitted_token_ids:
            sequence.replay(self.backend.piece(token_id))
        self._waiting.append(sequence)
        self._by_id[generation.id] = sequence
        if sequence.output_tokens >= generation.max_tokens:
            return self._finish(sequence, "length")
        if sequence.stop_matched:
            return self._finish(sequence, "stop")
        return []

    def cancel(self, generation_id: str) -> None:
        """Stop a generation before its next token; unknown ids are ignored: it has ended."""
        sequence = self._by_id.get(generation_id)
        if sequence is not None:
            sequence.cancelled = True

    def step(self) -> list[Output]:
        """Compute one batch and return the frames it gave rise to, in order."""
        outputs: list[Output] = []
        for sequence in [*self._running, *self._waiting]:
            if sequence.cancelled:
                outputs.extend(self._finish(sequence, "cancelled"))
        waiting = [] if self._cache_is_full else self._waiting
        plan = schedule(self._running, waiting, self.config)
        self._apply(plan, outputs)
        if not plan.chunks:
            return outputs
        spans = [_span(sequence, count) for sequence, count in plan.chunks]
        self.step_tokens_in_flight = sum(count for _, count in plan.chunks)
        outcome = self.backend.decode(spans)
        self.step_tokens_in_flight = 0
        if outcome is DecodeOutcome.DONE:
            for index, (sequence, count) in enumerate(plan.chunks):
                sequence.computed_tokens += count
                if spans[index].wants_logits:
                    outputs.extend(self._advance(sequence, index))
        else:
            self._undo(plan, outcome)
        return outputs

    def check_integrity(self) -> None:
        """Compare the engine's count of cells and slots with the backend's.

        Raises:
            BackendError: they differ, so cells leaked or were lost.
        """
        for sequence in self._running:
            stored = self.backend.stored_tokens(sequence.sequence_id)
            if stored != sequence.computed_tokens:
                raise BackendError(
                    f"sequence {sequence.id} holds {stored} cells, expected "
                    f"{sequence.computed_tokens}"
                )
        for sequence_id in self._free_ids:
            stored = self.backend.stored_tokens(sequence_id)
            if stored:
                raise BackendError(f"free slot {sequence_id} holds {stored} cells")
        if len(self._free_ids) + len(self._running) != self.config.max_sequences:
            raise BackendError(
                f"{len(self._free_ids)} free and {len(self._running)} running sequences are not "
                f"{self.config.max_sequences}"
            )

    def _apply(self, plan: StepPlan, outputs: list[Output]) -> None:
        """Carry out who gives way and who enters."""
        for sequence in plan.preempted:
            self._leave_cache(sequence)
            sequence.status = Status.WAITING
            self._waiting.append(sequence)
        for sequence in plan.admitted:
            self._waiting.remove(sequence)
            self._running.append(sequence)
            sequence.status = Status.RUNNING
            sequence.sequence_id = self._free_ids.pop()
            generation = sequence.generation
            if sequence.sampler is None:
                sequence.sampler = self.backend.new_sampler(
                    generation.sampling,
                    generation.prompt_token_ids,
                    generation.emitted_token_ids,
                )
            if not sequence.started:
                sequence.started = True
                prompt_tokens = len(generation.prompt_token_ids)
                outputs.append((sequence.id, Started(prompt_tokens, sequence.cached_tokens)))

    def _undo(self, plan: StepPlan, outcome: DecodeOutcome) -> None:
        """Forget what a decode that did not finish left in the cache."""
        for sequence, _ in plan.chunks:
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        if outcome is DecodeOutcome.NO_CELLS:
            if len(self._running) < 2:
                raise BackendError("the KV cache is full although a single sequence runs")
            # By our count there is room, so the victim would be back in the next step.
            self._cache_is_full = True
            victim = max(self._running, key=lambda sequence: sequence.rank)
            self._leave_cache(victim)
            victim.status = Status.WAITING
            self._waiting.append(victim)

    def _advance(self, sequence: Sequence, span_index: int) -> list[Output]:
        """Sample a sequence's next token and see whether it ends there."""
        generation = sequence.generation
        token_id = self.backend.sample(sequence.sampler, span_index)
        if sequence.first_token_at is None:
            sequence.first_token_at = self._clock()
        sequence.token_ids.append(token_id)
        ends = self.backend.ends_generation(token_id)
        if ends and not generation.ignore_eos:
            return self._finish(sequence, "stop")
        logprob = None
        if generation.top_logprobs is not None:
            logprob = token_logprob(
                self.backend, self.backend.logits(span_index), token_id, generation.top_logprobs
            )
        delta = sequence.release(token_id, self.backend.piece(token_id), logprob)
        outputs: list[Output] = [(sequence.id, delta)]
        if sequence.stop_matched:
            outputs.extend(self._finish(sequence, "stop"))
        elif sequence.output_tokens >= generation.max_tokens:
            outputs.extend(self._finish(sequence, "length"))
        return outputs

    def _finish(self, sequence: Sequence, reason: FinishReason) -> list[Output]:
        """End a sequence, free what it holds, and give its last frames."""
        outputs: list[Output] = []
        tail = sequence.flush()
        if tail is not None:
            outputs.append((sequence.id, tail))
        if sequence.status is Status.RUNNING:
            self._leave_cache(sequence)
            self._cache_is_full = False
        else:
            self._waiting.remove(sequence)
        sequence.status = Status.FINISHED
        if sequence.sampler is not None:
            self.backend.free_sampler(sequence.sampler)
            sequence.sampler = None
        del self._by_id[sequence.id]
        outputs.append((sequence.id, Finished(reason, sequence.usage, self._timings(sequence))))
        return outputs

    def _leave_cache(self, sequence: Sequence) -> None:
        """Free a running sequence's cells and slot."""
        self.backend.truncate(sequence.sequence_id, 0)
        self._running.remove(sequence)
        self._free_ids.append(sequence.sequence_id)
        sequence.sequence_id = NO_SLOT
        sequence.computed_tokens = 0

    def _timings(self, sequence: Sequence) -> Timings:
        now = self._clock()
        first = sequence.first_token_at or now
        return Timings(prefill_seconds=first - sequence.submitted_at, decode_seconds=now - first)


def _span(sequence: Sequence, count: int) -> Span:
    """The next ``count`` pending tokens of a sequence as part of a batch."""
    start = sequence.computed_tokens
    return Span(
        sequence_id=sequence.sequence_id,
        start=start,
        token_ids=sequence.token_ids[start : start + count],
        wants_logits=count == sequence.pending_tokens,
    )
