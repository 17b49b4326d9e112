"""The engine: takes generations, runs steps, gives frames."""

import time
from collections.abc import Callable

from inference.engine.backend import Backend, BackendError, DecodeOutcome, GrammarError
from inference.engine.batches import Chunk, batches
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Drafter, DraftRequest
from inference.engine.drafting.speculation import Speculation
from inference.engine.kv_cache import KvCache
from inference.engine.logprobs import token_logprob
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
    Timings,
    TokenLogprob,
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
            self._speculation = Speculation(
                drafter, config.max_draft_tokens, self._costs.answers.seconds
            )
        self._arrivals = 0
        self._cache_is_full = False
        self._steps_since_stall = 0
        self._paused_steps = 0
        self.step_tokens_in_flight = 0
        self.is_full = False

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
        """KV cells that hold a token, for running sequences or kept to share."""
        return self._cache.used_cells

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
        """Compute a token of each answer and some of prompts; return the frames, in order."""
        outputs: list[Output] = []
        for sequence in [*self._running, *self._waiting]:
            if sequence.cancelled:
                outputs.extend(self._finish(sequence, "cancelled"))
        plan = self._plan()
        self._apply(plan, outputs)
        plan.chunks = [chunk for chunk in plan.chunks if chunk[0].status is Status.RUNNING]
        if not plan.chunks:
            return outputs
        chunks = [
            Chunk(sequence, count, draft)
            for (sequence, count), draft in zip(plan.chunks, self._draft(plan), strict=True)
        ]
        for batch in batches(chunks, self.backend.tiled_pairs):
            outcome = self._decode(batch)
            if outcome is not DecodeOutcome.DONE:
                self._undo(batch, outcome)
                break
            for index, chunk in enumerate(batch):
                chunk.sequence.computed_tokens += chunk.count
                self._cache.publish(chunk.sequence)
                if chunk.span.outputs:
                    outputs.extend(self._advance(chunk.sequence, index, chunk.draft))
        return outputs

    def check_integrity(self) -> None:
        """Compare the count of cells and sequence ids with the backend's.

        Raises:
            BackendError: they differ, so cells leaked or were lost.
        """
        self._cache.check_integrity()

    def _plan(self) -> StepPlan:
        """Decide on the next step and remember what the one after it must know."""
        waiting = [] if self._cache_is_full else self._admissible()
        self._cache.survey(waiting)
        conditions = Conditions(
            self._cache.available_cells, self._steps_since_stall, self._paused_steps
        )
        plan = schedule(self._running, waiting, self.config, conditions, self._costs)
        self._steps_since_stall = 0 if plan.stalls else self._steps_since_stall + 1
        self._paused_steps = self._paused_steps + 1 if plan.pauses else 0
        self.is_full = self._cache_is_full or plan.is_full or bool(plan.preempted)
        return plan

    def _admissible(self) -> list[Sequence]:
        """Who may enter: those with a grammar only once it holds up nobody else."""
        free = [sequence for sequence in self._waiting if not sequence.generation.grammar]
        is_alone = not self._running and not free
        if len(free) == len(self._waiting) or self.backend.is_ready_for_grammars() or is_alone:
            return self._waiting
        return free

    def _draft(self, plan: StepPlan) -> list[list[int]]:
        """Guessed tokens to compute behind each chunk of the plan; mostly none."""
        drafts: list[list[int]] = [[] for _ in plan.chunks]
        if self._speculation is None:
            return drafts
        decoding = [i for i, (sequence, _) in enumerate(plan.chunks) if sequence.is_decoding]
        if not 0 < len(decoding) <= self.config.max_drafting_sequences:
            return drafts
        tokens = sum(count for _, count in plan.chunks)
        room = min(
            self.config.step_tokens - tokens,
            self.config.step_outputs - len(plan.chunks),
            self._cache.available_cells - tokens,
        )
        requests = [
            DraftRequest(sequence.id, sequence.token_ids, sequence.remaining_tokens - 1)
            for sequence in (plan.chunks[index][0] for index in decoding)
        ]
        proposed = self._speculation.draft(requests, tokens - len(decoding), max(0, room))
        for index, draft in zip(decoding, proposed, strict=True):
            drafts[index] = draft
        return drafts

    def _decode(self, batch: list[Chunk]) -> DecodeOutcome:
        """Compute a batch, and learn what it cost."""
        spans = [chunk.span for chunk in batch]
        tokens = sum(len(span.token_ids) for span in spans)
        self._cache.make_room(tokens)
        self.step_tokens_in_flight = tokens
        began_at = self._clock()
        outcome = self.backend.decode(spans)
        self.step_tokens_in_flight = 0
        if outcome is DecodeOutcome.DONE:
            self._cache.age(sum(bool(span.outputs) for span in spans))
            outputs = sum(span.outputs for span in spans)
            self._costs.observe(outputs, tokens - outputs, self._clock() - began_at)
        return outcome

    def _apply(self, plan: StepPlan, outputs: list[Output]) -> None:
        """Carry out who gives way and who enters."""
        for sequence in plan.preempted:
            self._give_way(sequence)
        for sequence in plan.admitted:
            self._waiting.remove(sequence)
            self._running.append(sequence)
            sequence.status = Status.RUNNING
            self._cache.enter(sequence)
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

    def _undo(self, batch: list[Chunk], outcome: DecodeOutcome) -> None:
        """Forget what a decode that did not finish left in the cache."""
        for sequence in (chunk.sequence for chunk in batch):
            if self.backend.recurrent:
                sequence.computed_tokens = 0
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        if outcome is DecodeOutcome.NO_CELLS and not self._cache.forget_kept():
            if len(self._running) < 2:
                raise BackendError("the KV cache is full although a single sequence runs")
            # By our count there is room, so the victim would be back in the next step.
            self._cache_is_full = True
            self._give_way(max(self._running, key=lambda sequence: sequence.rank))

    def _advance(self, sequence: Sequence, span_index: int, draft: list[int]) -> list[Output]:
        """Sample a sequence's next token, and more while drafted ones prove right."""
        try:
            sampled = self._verify(sequence, span_index, draft)
        except GrammarError as error:
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
            return self._fail(sequence, error)
        if self._speculation is not None:
            self._speculation.observe(sequence.id, [token_id for token_id, _ in sampled])
        sequence.drafted_tokens += len(draft)
        outputs = self._take(sequence, *sampled[0])
        for token_id, logprob in sampled[1:]:
            if sequence.status is Status.FINISHED:
                return outputs
            # It follows a guess that was right, and so has been computed.
            sequence.computed_tokens += 1
            sequence.accepted_tokens += 1
            outputs.extend(self._take(sequence, token_id, logprob))
        if draft and sequence.status is Status.RUNNING:
            self.backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        return outputs

    def _verify(
        self, sequence: Sequence, span_index: int, draft: list[int]
    ) -> list[tuple[int, TokenLogprob | None]]:
        """Sample after each drafted token for as long as they are what is sampled."""
        generation = sequence.generation
        sampled: list[tuple[int, TokenLogprob | None]] = []
        for output in range(len(draft) + 1):
            logits = None
            if generation.top_logprobs is not None:
                # Sampling may change them in place.
                logits = self.backend.logits(span_index, output).copy()
            token_id = self.backend.sample(sequence.sampler, span_index, output)
            logprob = None
            if logits is not None:
                logprob = token_logprob(
                    self.backend, logits, token_id, generation.top_logprobs or 0
                )
            sampled.append((token_id, logprob))
            if draft[output : output + 1] != [token_id] or self._ends(sequence, token_id):
                break
        return sampled

    def _take(
        self, sequence: Sequence, token_id: int, logprob: TokenLogprob | None
    ) -> list[Output]:
        """Add a token to a sequence and see whether it ends there."""
        if sequence.first_token_at is None:
            sequence.first_token_at = self._clock()
        sequence.token_ids.append(token_id)
        if self._ends(sequence, token_id):
            return self._finish(sequence, "stop")
        delta = sequence.release(token_id, self.backend.piece(token_id), logprob)
        outputs: list[Output] = [(sequence.id, delta)]
        if sequence.stop_matched:
            outputs.extend(self._finish(sequence, "stop"))
        elif sequence.remaining_tokens < 1:
            outputs.extend(self._finish(sequence, "length"))
        return outputs

    def _ends(self, sequence: Sequence, token_id: int) -> bool:
        return self.backend.ends_generation(token_id) and not sequence.generation.ignore_eos

    def _finish(self, sequence: Sequence, reason: FinishReason) -> list[Output]:
        """End a sequence and give its last frames."""
        outputs: list[Output] = []
        tail = sequence.flush()
        if tail is not None:
            outputs.append((sequence.id, tail))
        self._forget(sequence)
        outputs.append((sequence.id, Finished(reason, sequence.usage, self._timings(sequence))))
        return outputs

    def _fail(self, sequence: Sequence, error: GrammarError) -> list[Output]:
        """End a sequence whose grammar leaves it no way to go on."""
        self._forget(sequence)
        message = (
            f"The answer cannot follow its grammar further: {error}. "
            "Simplify the schema or grammar."
        )
        return [(sequence.id, Failed("grammar_failed", message))]

    def _forget(self, sequence: Sequence) -> None:
        """Free what a sequence holds."""
        if sequence.status is Status.RUNNING:
            self._running.remove(sequence)
            self._cache.leave(sequence)
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

    def _give_way(self, sequence: Sequence) -> None:
        """Send a running sequence back to wait."""
        self._running.remove(sequence)
        self._cache.leave(sequence)
        sequence.status = Status.WAITING
        self._waiting.append(sequence)

    def _timings(self, sequence: Sequence) -> Timings:
        now = self._clock()
        first = sequence.first_token_at or now
        return Timings(prefill_seconds=first - sequence.submitted_at, decode_seconds=now - first)
