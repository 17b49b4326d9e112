"""Decide what one step computes: pure, over sequences and limits.

The order of a step, as in vLLM's chunked prefill: one token for every running sequence first, then
prompt chunks up to a budget, then new sequences. When the KV cache is full the lowest-priority,
newest sequence gives way and is computed again later.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from inference.engine.config import EngineConfig
from inference.engine.sequence import Sequence

# Cells kept free per running sequence when another is admitted, so that a sequence which had to
# give way does not come back only to give way again a few tokens later.
HEADROOM_CELLS = 16


@dataclass
class StepPlan:
    """What to compute: (sequence, number of its pending tokens); who gives way; who enters."""

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)


def schedule(
    running: SequenceOf[Sequence], waiting: SequenceOf[Sequence], config: EngineConfig
) -> StepPlan:
    """Plan the next step.

    Args:
        running: sequences that hold KV cells.
        waiting: sequences that hold none.
        config: the engine's limits.

    Returns:
        The plan; nothing is changed. A pre-empted sequence is in no chunk.
    """
    plan = StepPlan()
    kept = sorted(running, key=lambda sequence: sequence.rank)
    free_cells = config.kv_cells - sum(sequence.computed_tokens for sequence in kept)

    decoding = [sequence for sequence in kept if sequence.is_decoding]
    while len(decoding) > free_cells and len(kept) > 1:
        victim = kept.pop()
        plan.preempted.append(victim)
        free_cells += victim.computed_tokens
        if victim.is_decoding:
            decoding.remove(victim)
    plan.chunks.extend((sequence, 1) for sequence in decoding[:free_cells])
    free_cells -= len(plan.chunks)

    budget = config.step_tokens - len(plan.chunks)
    if decoding:
        budget = min(budget, config.prefill_budget_tokens)
    for sequence in kept:
        count = min(sequence.pending_tokens, budget, free_cells)
        if not sequence.is_decoding and count > 0:
            plan.chunks.append((sequence, count))
            budget -= count
            free_cells -= count

    if not plan.preempted:
        _admit(plan, kept, waiting, free_cells, budget, config)
    return plan


def _admit(
    plan: StepPlan,
    kept: SequenceOf[Sequence],
    waiting: SequenceOf[Sequence],
    free_cells: int,
    budget: int,
    config: EngineConfig,
) -> None:
    """Let waiting sequences in, best rank first, while slots, cells and budget last."""
    slots = config.max_sequences - len(kept)
    present = len(kept)
    for sequence in sorted(waiting, key=lambda candidate: candidate.rank):
        headroom = HEADROOM_CELLS * present
        if slots < 1 or budget < 1 or sequence.pending_tokens + headroom > free_cells:
            return
        count = min(sequence.pending_tokens, budget)
        plan.chunks.append((sequence, count))
        plan.admitted.append(sequence)
        budget -= count
        free_cells -= sequence.pending_tokens
        slots -= 1
        present += 1
