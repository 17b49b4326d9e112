import time
from collections.abc import Callable

from inference.engine.backend import Backend, BackendError, DecodeOutcome, GrammarError
from inference.engine.batches import Chunk, batches
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Drafter
from inference.engine.drafting.speculation import Speculation
from inference.engine.kv_cache import KvCache
from inference.engine.sampling import ends, sample
from inference.engine.scheduler import Conditions, StepPlan, schedule
from inference.engine.sequence import Sequence, Status
from inference.engine.step_cost import StepCosts
from inference.messages import (
    Failed,
    Finished,
    FinishReason,
    Frame,
    Generation,
    Started,
    TokenLogprob,
)

Output = tuple[str, Frame]


class Engine:
    """Runs many generations together on one backend, a step at a time; used by one thread."""

    def __init__(
        self,
        backend: Backend,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
        drafter: Drafter | None = None,
    ) -> None:
        self.backend = backend
        self.config = config
        self._clock = clock
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._by_id: dict[str, Sequence] = {}
        self._cache = KvCache(backend, config)
        self._costs = StepCosts()
        self._speculation: Speculation | None = None
        if drafter is not None:
            self._speculation = Speculation(drafter, config, self._costs.answers.seconds)
        self._arrivals = 0
        self._cache_is_full = False
        self._steps_since_stall = 0
        self._paused_steps = 0
        self.step_tokens_in_flight = 0
        self.is_full = False

    @property
    def is_idle(self) -> bool:
        return not self._by_id

    @property
    def running_sequences(self) -> int:
        return len(self._running)

    @property
    def waiting_sequences(self) -> int:
        return len(self._waiting)

    @property
    def used_cells(self) -> int:
        return self._cache.used_cells

    def submit(self, generation: Generation) -> list[Output]:
        """Queue a generation; return its failure if this engine could never hold it."""
        total = len(generation.prompt_token_ids) + generation.max_tokens
        if not generation.prompt_token_ids or total > self.config.kv_cells:
            message = (
                f"The prompt has {len(generation.prompt_token_ids)} tokens and the answer up to "
                f"{generation.max_tokens}. Together they must fit into {self.config.kv_cells} KV "
                "cells, and the prompt needs a token. Shorten the prompt or ask for fewer tokens."
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
        """Compute a token of each answer and a part of the prompts; return the frames in order."""
        outputs: list[Output] = []
        for sequence in [*self._running, *self._waiting]:
            if sequence.cancelled:
                outputs.extend(self._finish(sequence, "cancelled"))
        plan = self._plan()
        outputs.extend(self._apply(plan))
        plan.chunks = [chunk for chunk in plan.chunks if chunk[0].status is Status.RUNNING]
        if not plan.chunks:
            return outputs
        for batch in batches(self._chunks(plan), self.backend.tiled_pairs):
            outcome = self._decode(batch)
            if outcome is not DecodeOutcome.DONE:
                self._undo(batch, outcome)
                break
            for index, chunk in enumerate(batch):
                chunk.sequence.add_computed(chunk.count)
                self._cache.publish(chunk.sequence)
                if chunk.span.outputs:
                    outputs.extend(self._advance(chunk.sequence, index, chunk.draft))
        return outputs

    def check_integrity(self) -> None:
        self._cache.check_integrity()

    def _plan(self) -> StepPlan:
        """Schedule the next step and update the counts that the following one depends on."""
        waiting = [] if self._cache_is_full else self._admissible()
        self._cache.update_sharing(waiting)
        conditions = Conditions(
            self._cache.available_cells, self._steps_since_stall, self._paused_steps
        )
        plan = schedule(self._running, waiting, self.config, conditions, self._costs)
        self._steps_since_stall = 0 if plan.stalls else self._steps_since_stall + 1
        self._paused_steps = self._paused_steps + 1 if plan.pauses else 0
        self.is_full = self._cache_is_full or plan.is_full or bool(plan.preempted)
        return plan

    def _admissible(self) -> list[Sequence]:
        """Waiting sequences; those with a grammar only once it delays no other sequence."""
        free = [sequence for sequence in self._waiting if not sequence.generation.grammar]
        is_alone = not self._running and not free
        if len(free) == len(self._waiting) or self.backend.is_ready_for_grammars() or is_alone:
            return self._waiting
        return free

    def _chunks(self, plan: StepPlan) -> list[Chunk]:
        if self._speculation is None:
            return [Chunk(sequence, count) for sequence, count in plan.chunks]
        tokens = sum(count for _, count in plan.chunks)
        room = min(
            self.config.step_tokens - tokens,
            self.config.step_outputs - len(plan.chunks),
            self._cache.available_cells - tokens,
        )
        began_at = self._clock()
        drafts = self._speculation.draft_behind(plan.chunks, max(0, room))
        chunks = [
            Chunk(sequence, count, draft)
            for (sequence, count), draft in zip(plan.chunks, drafts, strict=True)
        ]
        _share_time(chunks, self._clock() - began_at)
        return chunks

    def _decode(self, batch: list[Chunk]) -> DecodeOutcome:
        spans = [chunk.span for chunk in batch]
        tokens = sum(len(span.token_ids) for span in spans)
        self._cache.make_room(tokens)
        self.step_tokens_in_flight = tokens
        began_at = self._clock()
        outcome = self.backend.decode(spans)
        seconds = self._clock() - began_at
        self.step_tokens_in_flight = 0
        _share_time(batch, seconds)
        if outcome is DecodeOutcome.DONE:
            self._cache.expire(sum(bool(span.outputs) for span in spans))
            outputs = sum(span.outputs for span in spans)
            self._costs.observe(outputs, tokens - outputs, seconds)
        return outcome

    def _apply(self, plan: StepPlan) -> list[Output]:
        """Preempt and admit sequences as planned; return ``Started`` frames and failures."""
        outputs: list[Output] = []
        for sequence in plan.preempted:
            self._preempt(sequence)
        for sequence in plan.admitted:
            self._waiting.remove(sequence)
            self._running.append(sequence)
            sequence.status = Status.RUNNING
            self._cache.allocate(sequence)
            generation = sequence.generation
            prompt_tokens = len(generation.prompt_token_ids)
            if sequence.sampler is None:
                sequence.cached_tokens = min(sequence.computed_tokens, prompt_tokens)
                try:
                    sequence.sampler = self.backend.new_sampler(
                        generation.sampling,
                        generation.prompt_token_ids,
                        generation.emitted_token_ids,
                        generation.grammar,
                    )
                except GrammarError as error:
                    outputs.extend(self._fail(sequence, error))
                    continue
            if not sequence.started:
                sequence.started = True
                outputs.append((sequence.id, Started(prompt_tokens, sequence.cached_tokens)))
        return outputs

    def _undo(self, batch: list[Chunk], outcome: DecodeOutcome) -> None:
        for sequence in (chunk.sequence for chunk in batch):
            if self.backend.recurrent:
                sequence.computed_tokens = 0
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        if outcome is DecodeOutcome.NO_CELLS and not self._cache.forget_kept():
            if len(self._running) < 2:
                raise BackendError("the KV cache is full although a single sequence runs")
            # By our count there is room, so the preempted sequence would return in the next step.
            self._cache_is_full = True
            self._preempt(max(self._running, key=lambda sequence: sequence.rank))

    def _advance(self, sequence: Sequence, span_index: int, draft: list[int]) -> list[Output]:
        """Sample a sequence's next token, and the following ones while the draft is right."""
        try:
            sampled = sample(self.backend, sequence, span_index, draft)
        except GrammarError as error:
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
            return self._fail(sequence, error)
        if self._speculation is not None:
            self._speculation.observe(sequence.id, [token_id for token_id, _ in sampled])
        sequence.drafted_tokens += len(draft)
        outputs = self._add(sequence, *sampled[0])
        for token_id, logprob in sampled[1:]:
            if sequence.status is Status.FINISHED:
                return outputs
            # The token before this one was drafted and right, so it has been computed.
            sequence.computed_tokens += 1
            sequence.accepted_tokens += 1
            outputs.extend(self._add(sequence, token_id, logprob))
        if draft and sequence.status is Status.RUNNING:
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        return outputs

    def _add(self, sequence: Sequence, token_id: int, logprob: TokenLogprob | None) -> list[Output]:
        if sequence.first_token_at is None:
            sequence.first_token_at = self._clock()
        sequence.token_ids.append(token_id)
        if ends(self.backend, sequence, token_id):
            return self._finish(sequence, "stop")
        delta = sequence.emit(token_id, self.backend.piece(token_id), logprob)
        outputs: list[Output] = [(sequence.id, delta)]
        if sequence.stop_matched:
            outputs.extend(self._finish(sequence, "stop"))
        elif sequence.remaining_tokens < 1:
            outputs.extend(self._finish(sequence, "length"))
        return outputs

    def _finish(self, sequence: Sequence, reason: FinishReason) -> list[Output]:
        outputs: list[Output] = []
        tail = sequence.flush()
        if tail is not None:
            outputs.append((sequence.id, tail))
        self._release(sequence)
        timings = sequence.timings(self._clock())
        outputs.append((sequence.id, Finished(reason, sequence.usage, timings)))
        return outputs

    def _fail(self, sequence: Sequence, error: GrammarError) -> list[Output]:
        self._release(sequence)
        message = (
            f"The answer cannot follow its grammar further: {error}. "
            "Simplify the schema or grammar."
        )
        timings = sequence.timings(self._clock())
        failed = Failed("grammar_failed", message, usage=sequence.usage, timings=timings)
        return [(sequence.id, failed)]

    def _release(self, sequence: Sequence) -> None:
        if sequence.status is Status.RUNNING:
            self._running.remove(sequence)
            self._cache.release(sequence)
            self._cache_is_full = False
        else:
            self._waiting.remove(sequence)
        sequence.status = Status.FINISHED
        if sequence.sampler is not None:
            self.backend.free_sampler(sequence.sampler)
            sequence.sampler = None
        if self._speculation is not None:
            self._speculation.forget(sequence.id)
        del self._by_id[sequence.id]

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._cache.release(sequence)
        sequence.status = Status.WAITING
        self._waiting.append(sequence)


def _share_time(chunks: list[Chunk], seconds: float) -> None:
    """Divide the time of a batch among its sequences by their tokens in it."""
    token_seconds = seconds / sum(len(chunk.span.token_ids) for chunk in chunks)
    for chunk in chunks:
        chunk.sequence.device_seconds += token_seconds * len(chunk.span.token_ids)
