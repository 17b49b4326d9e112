"""Drafts by a second, smaller model of the same vocabulary, greedily."""

import time
from bisect import bisect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np

from inference.engine.backend import Backend, DecodeOutcome, ModelLoadError, Span
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Draft, DraftRequest
from inference.engine.step_cost import StepCost

# A token is a rival of the likeliest when it is at least 1/e² as likely. The fewer rivals, the
# surer the draft model is. Counting them costs a fifth of computing the probability.
RIVAL_LOGITS = 2.0
RIVALS = (1, 2, 4)
# Vocabularies of one family are padded differently: the tolerance of llama.cpp's
# common/speculative.cpp.
MAX_SIZE_DIFFERENCE = 128


@dataclass
class _Slot:
    sequence_id: int
    confirmed: int = 0  # tokens of the text; the guesses follow them
    guesses: list[int] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return self.confirmed + len(self.guesses)


@dataclass
class _PendingDraft:
    """A draft of ``tokens`` tokens; ``feed`` is computed before its next token."""

    draft: Draft
    tokens: int
    slot: _Slot
    feed: list[int]


class ModelDrafter:
    """Drafts from a second model, whose own KV cache follows the sequences that want drafts.

    A sequence far behind catches up by one batch a call and gets an empty draft until it has, so
    that a long prompt delays the others no longer than in the model itself. When the cache is full
    the least recently used sequence is dropped, and computed again when a draft of it is wanted.
    """

    top_grade = len(RIVALS)
    is_free = False

    def __init__(
        self,
        backend: Backend,
        target: Backend,
        config: EngineConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Draft with ``backend``, an empty one with the limits of ``config``, for ``target``.

        Raises ``ModelLoadError`` when the vocabularies differ or the draft model is recurrent.
        """
        if backend.recurrent:
            raise ModelLoadError(
                "The draft model is recurrent, so it cannot take back what proves wrong. "
                "Name another draft model."
            )
        self._common_size = _common_vocabulary(backend, target)
        self._backend = backend
        self._kv_cells = config.kv_cells
        self._step_tokens = config.step_tokens
        self._clock = clock
        self._cost = StepCost()
        self._free_ids = list(range(config.max_sequences - 1, -1, -1))
        # Least recently used first.
        self._slots: dict[Hashable, _Slot] = {}

    def seconds(self, tokens: int, rounds: int) -> float:
        """Time of ``rounds`` equal steps of the draft model; 0 until one step has been measured."""
        if not rounds or not self._cost.is_known:
            return 0.0
        return rounds * self._cost.seconds(max(1, round(tokens / rounds)))

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """The greedy continuation of each text; empty while the draft model still catches up."""
        used = {request.key for request in requests}
        drafts = [Draft() for _ in requests]
        pending: list[_PendingDraft] = []
        reserved_cells = 0
        for request, draft in zip(requests, drafts, strict=True):
            slot = self._slot_of(request, used) if request.tokens else None
            if slot is None:
                continue
            cells = len(request.token_ids) + request.tokens - 1 - slot.cells
            if self._make_room(reserved_cells + cells, used):
                reserved_cells += cells
                feed = request.token_ids[slot.confirmed :]
                pending.append(_PendingDraft(draft, request.tokens, slot, feed))
        # Shortest first: a sequence that must catch up waits for the others, not they for it.
        pending.sort(key=lambda each: len(each.feed))
        while pending:
            pending = self._compute_batch(pending)
        return drafts

    def forget(self, key: Hashable) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._backend.truncate(slot.sequence_id, 0)
            self._free_ids.append(slot.sequence_id)

    def _slot_of(self, request: DraftRequest, used: set[Hashable]) -> _Slot | None:
        """The slot of the sequence, without wrong guesses; None when all slots are in use."""
        slot = self._slots.pop(request.key, None)
        if slot is None:
            while not self._free_ids and self._drop_unused(used):
                pass
            if not self._free_ids:
                return None
            slot = _Slot(self._free_ids.pop())
        self._slots[request.key] = slot
        # Confirm the guesses that the text contains; its last token is computed for the logits.
        known = min(slot.confirmed, len(request.token_ids) - 1)
        for guess, truth in zip(slot.guesses, request.token_ids[known:-1], strict=False):
            if guess != truth:
                break
            known += 1
        if known < slot.cells:
            self._backend.truncate(slot.sequence_id, known)
        slot.confirmed, slot.guesses = known, []
        return slot

    def _make_room(self, cells: int, used: set[Hashable]) -> bool:
        while sum(slot.cells for slot in self._slots.values()) + cells > self._kv_cells:
            if not self._drop_unused(used):
                return False
        return True

    def _drop_unused(self, used: set[Hashable]) -> bool:
        key = next((key for key in self._slots if key not in used), None)
        if key is None:
            return False
        self.forget(key)
        return True

    def _compute_batch(self, pending: list[_PendingDraft]) -> list[_PendingDraft]:
        """Draft a token for each text that is complete; return the drafts that need more."""
        spans: list[Span] = []
        room = self._step_tokens
        for each in pending:
            count = min(len(each.feed), room)
            if not count:
                break
            outputs = int(count == len(each.feed))
            spans.append(Span(each.slot.sequence_id, each.slot.cells, each.feed[:count], outputs))
            room -= count
        started = self._clock()
        outcome = self._backend.decode(spans)
        if outcome is not DecodeOutcome.DONE:
            for span in spans:
                self._backend.truncate(span.sequence_id, span.start)
            return []
        unfinished = []
        for index, (each, span) in enumerate(zip(pending, spans, strict=False)):
            if each.draft.token_ids:
                each.slot.guesses += span.token_ids
            else:
                each.slot.confirmed += len(span.token_ids)
            if span.outputs:
                logits = self._backend.logits(index)[: self._common_size]
                token_id = int(logits.argmax())
                each.draft.token_ids.append(token_id)
                # The grade is higher the fewer rivals the likeliest token has.
                rivals = int(np.count_nonzero(logits > logits[token_id] - RIVAL_LOGITS)) - 1
                each.draft.grades.append(len(RIVALS) - bisect(RIVALS, rivals))
                if len(each.draft.token_ids) < each.tokens:
                    each.feed = [token_id]
                    unfinished.append(each)
        self._cost.observe(self._step_tokens - room, self._clock() - started)
        return unfinished


def _common_vocabulary(draft: Backend, target: Backend) -> int:
    """The number of token ids in both vocabularies. Raises ``ModelLoadError`` when they differ."""
    sizes = draft.vocabulary_size, target.vocabulary_size
    if abs(sizes[0] - sizes[1]) > MAX_SIZE_DIFFERENCE:
        raise ModelLoadError(
            f"The draft model has {sizes[0]} tokens and the model {sizes[1]}. "
            "Name a draft model of the same family."
        )
    for token_id in range(min(sizes)):
        if draft.token_name(token_id) != target.token_name(token_id):
            raise ModelLoadError(
                f"Token {token_id} is {draft.token_name(token_id)!r} to the draft model and "
                f"{target.token_name(token_id)!r} to the model. "
                "Name a draft model of the same family."
            )
    return min(sizes)
