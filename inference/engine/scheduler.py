"""Decide what one step computes, without side effects.

As in vLLM's chunked prefill a step has one token of every running sequence first, then prompt
chunks up to a budget. Waiting sequences are admitted by rank; without a free slot a sequence
preempts a running one of lower priority. When the KV cache is full the newest sequence of the
lowest priority is preempted and continues later.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from inference.engine.config import EngineConfig
from inference.engine.prefix_tree import common_length
from inference.engine.sequence import Sequence
from inference.engine.step_cost import StepCosts

# Cells kept free per running sequence when another is admitted, so that a preempted sequence does
# not return only to be preempted again a few tokens later.
HEADROOM_CELLS = 16
# A sequence waits for another that computes a beginning of its prompt if that saves this much.
WORTH_WAITING_TOKENS = 16
# A prompt of up to this length is computed in one step whatever else runs: in pieces of eight a
# small model on two cores took twice as long for it. It delays the others by a tenth of a second
# there, and by more with a larger model.
SHORT_PROMPT_TOKENS = 128
# One step in STALL_EVERY_STEPS may take STALL_SLOWDOWN times as long for a part of a long prompt;
# this is rare enough not to show in a 95th percentile.
STALL_EVERY_STEPS = 40
STALL_SLOWDOWN = 8.0
# Sequences of lower priority pause for at most this many steps in a row.
MAX_PAUSED_STEPS = 8


@dataclass(frozen=True)
class Conditions:
    """The state that a step depends on besides its sequences."""

    free_cells: int  # kept ones included
    steps_since_stall: int = 0
    paused_steps: int = 0  # in a row


@dataclass
class StepPlan:
    """A step: ``chunks`` are sequences, each with a number of its pending tokens."""

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    is_full: bool = False  # a sequence was not admitted for lack of cells or slots
    stalls: bool = False  # the step is long for the answers that run
    pauses: bool = False  # some running sequences compute nothing


def schedule(
    running: SequenceOf[Sequence],
    waiting: SequenceOf[Sequence],
    config: EngineConfig,
    conditions: Conditions,
    costs: StepCosts,
) -> StepPlan:
    """Plan the next step; no argument is changed. A preempted sequence is in no chunk."""
    plan = StepPlan()
    remaining = sorted(running, key=lambda sequence: sequence.rank)
    free_cells = conditions.free_cells
    while sum(sequence.is_stepping for sequence in remaining) > free_cells and len(remaining) > 1:
        free_cells += _preempt(plan, remaining)
    stepping = [sequence for sequence in remaining if sequence.is_stepping][:free_cells]
    free_cells -= len(stepping)
    if not plan.preempted:
        free_cells = _admit(plan, remaining, waiting, free_cells, config)

    present = sorted([*remaining, *plan.admitted], key=lambda sequence: sequence.rank)
    prefilling = [sequence for sequence in present if not sequence.is_stepping]
    stepping = [sequence for sequence in stepping if sequence in remaining]
    if prefilling and conditions.paused_steps < MAX_PAUSED_STEPS:
        urgent = max(sequence.priority for sequence in prefilling)
        continuing = [sequence for sequence in stepping if sequence.priority >= urgent]
        plan.pauses = len(continuing) < len(stepping)
        free_cells += len(stepping) - len(continuing)
        stepping = continuing
    plan.chunks.extend((sequence, 1) for sequence in stepping)
    budget = _budget(plan, prefilling, config, conditions, costs)
    for sequence in prefilling:
        count = min(_to_compute(sequence), budget, free_cells)
        if count > 0:
            plan.chunks.append((sequence, count))
            budget -= count
            free_cells -= count
    return plan


def _preempt(plan: StepPlan, remaining: list[Sequence]) -> int:
    """Preempt the sequence of the lowest rank; return the cells that this frees."""
    victim = remaining.pop()
    plan.preempted.append(victim)
    return victim.own_cells


def _admit(
    plan: StepPlan,
    remaining: list[Sequence],
    waiting: SequenceOf[Sequence],
    free_cells: int,
    config: EngineConfig,
) -> int:
    """Admit waiting sequences by rank while slots and cells last; return the free cells left."""
    reserved = sum(map(_reserved_cells, remaining))
    followers = 0
    for candidate in sorted(waiting, key=lambda sequence: sequence.rank):
        if any(victim.rank < candidate.rank for victim in plan.preempted):
            return free_cells
        leaders = [each for each in [*remaining, *plan.admitted] if not each.is_stepping]
        awaited = max((_worth_awaiting(candidate, leader) for leader in leaders), default=0)
        if config.shares_prefixes and awaited:
            followers += 1  # its slot is not given to a sequence of lower rank
            reserved += len(candidate.token_ids) - awaited
            continue
        room = config.max_sequences - len(remaining) - len(plan.admitted) - followers
        missing = candidate.unpinned_tokens + reserved - free_cells
        victims = _victims(candidate, remaining, needs_slot=room < 1, cells=missing)
        if victims is None:
            plan.is_full = True
            return free_cells
        for victim in victims:
            free_cells += _preempt(plan, remaining)
            reserved -= _reserved_cells(victim)
        plan.admitted.append(candidate)
        to_compute = len(candidate.token_ids) - candidate.shareable_tokens
        reserved += HEADROOM_CELLS + to_compute
        free_cells -= candidate.unpinned_tokens - to_compute
    return free_cells


def _victims(
    candidate: Sequence, remaining: SequenceOf[Sequence], *, needs_slot: bool, cells: int
) -> list[Sequence] | None:
    """The sequences to preempt for ``candidate``; None when preempting cannot make enough room."""
    victims: list[Sequence] = []
    for victim in reversed(remaining):
        if cells <= 0 and not needs_slot:
            break
        if victim.priority >= candidate.priority:
            return None
        victims.append(victim)
        cells -= victim.own_cells + _reserved_cells(victim)
        needs_slot = False
    return None if cells > 0 or needs_slot else victims


def _reserved_cells(sequence: Sequence) -> int:
    """Cells that an admission leaves free for a running sequence, to finish its prompt."""
    return HEADROOM_CELLS + (0 if sequence.is_stepping else sequence.pending_tokens)


def _worth_awaiting(candidate: Sequence, leader: Sequence) -> int:
    """Tokens that ``candidate`` can share after the prefill of ``leader``, if worth waiting."""
    if leader.rank > candidate.rank:
        return 0
    if leader.generation.cache_salt != candidate.generation.cache_salt:
        return 0
    common = common_length(leader.generation.prompt_token_ids, candidate.token_ids[:-1])
    return common if common - candidate.shareable_tokens >= WORTH_WAITING_TOKENS else 0


def _budget(
    plan: StepPlan,
    prefilling: SequenceOf[Sequence],
    config: EngineConfig,
    conditions: Conditions,
    costs: StepCosts,
) -> int:
    """Prompt tokens that this step computes beside the running sequences' next tokens."""
    steps = len(plan.chunks)
    most = config.step_tokens - steps
    if not steps or not prefilling:
        return most
    # Short prompts are computed whole, by rank. A long one gets as many tokens as keep the step
    # within ``max_slowdown`` times its time without them, and more in a stall.
    whole = 0
    for tokens in map(_to_compute, prefilling):
        if whole + tokens > SHORT_PROMPT_TOKENS:
            break
        whole += tokens
    plan.stalls = not whole and conditions.steps_since_stall >= STALL_EVERY_STEPS
    slowdown = max(config.max_slowdown, STALL_SLOWDOWN * plan.stalls)
    within = costs.prompt_tokens_within(steps, slowdown, config.step_tokens)
    budget = config.prefill_budget_tokens if within is None else max(1, within)
    return min(most, max(budget, whole))


def _to_compute(sequence: Sequence) -> int:
    """Tokens that are neither computed nor shared, up to ``prefill_end``."""
    done = sequence.computed_tokens or sequence.shareable_tokens
    return max(0, sequence.prefill_end - done)
