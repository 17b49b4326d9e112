"""Decide what one step computes: pure, over sequences and limits.

The order of a step, as in vLLM's chunked prefill: one token for every running sequence first, then
prompt chunks up to a budget. Who begins: best rank first, and a sequence that outranks a running
one takes its place when there is no other. When the KV cache is full the lowest-priority, newest
sequence gives way and goes on later.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from inference.engine.config import EngineConfig
from inference.engine.prefix_tree import common_length
from inference.engine.sequence import Sequence
from inference.engine.step_cost import StepCosts

# Cells kept free per running sequence when another is admitted, so that a sequence which had to
# give way does not come back only to give way again a few tokens later.
HEADROOM_CELLS = 16
# A sequence waits for one that is computing a beginning of its prompt, if that saves so much.
WORTH_WAITING_TOKENS = 16
# So many prompt tokens are computed at once whatever runs: in pieces of eight a small model on two
# cores took twice as long for them. They hold the others up for a tenth of a second there, and for
# longer where the model is larger.
SHORT_PROMPT_TOKENS = 128
# Of this many steps one may take so many times longer for a part of a long prompt: few enough for
# a 95th percentile not to show it.
STALL_EVERY_STEPS = 40
STALL_SLOWDOWN = 8.0
# Sequences of lower priority stand still for at most so many steps in a row.
MAX_PAUSED_STEPS = 8


@dataclass(frozen=True)
class Conditions:
    """What a step depends on besides its sequences.

    ``free_cells`` counts those that are only kept; the other two count steps: since one was long
    for the streams that ran, and for how many running sequences have stood still.
    """

    free_cells: int
    steps_since_stall: int = 0
    paused_steps: int = 0


@dataclass
class StepPlan:
    """What to compute: (sequence, number of its pending tokens); who gives way; who enters.

    ``is_full``: somebody had to stay out for want of cells or a slot.
    """

    chunks: list[tuple[Sequence, int]] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    is_full: bool = False
    stalls: bool = False
    pauses: bool = False


def schedule(
    running: SequenceOf[Sequence],
    waiting: SequenceOf[Sequence],
    config: EngineConfig,
    conditions: Conditions,
    costs: StepCosts,
) -> StepPlan:
    """Plan the next step.

    Args:
        running: sequences that hold KV cells; ``own_cells`` is known.
        waiting: sequences that hold none; what they can share is known.
        config: the engine's limits.
        conditions: cells, and what earlier steps did.
        costs: what steps take.

    Returns:
        The plan; nothing is changed. A pre-empted sequence is in no chunk.
    """
    plan = StepPlan()
    kept = sorted(running, key=lambda sequence: sequence.rank)
    free_cells = conditions.free_cells
    while sum(sequence.is_stepping for sequence in kept) > free_cells and len(kept) > 1:
        free_cells += _preempt(plan, kept)
    stepping = [sequence for sequence in kept if sequence.is_stepping][:free_cells]
    free_cells -= len(stepping)
    if not plan.preempted:
        free_cells = _admit(plan, kept, waiting, free_cells, config)

    present = sorted([*kept, *plan.admitted], key=lambda sequence: sequence.rank)
    prefilling = [sequence for sequence in present if not sequence.is_stepping]
    stepping = [sequence for sequence in stepping if sequence in kept]
    if prefilling and conditions.paused_steps < MAX_PAUSED_STEPS:
        urgent = max(sequence.priority for sequence in prefilling)
        going = [sequence for sequence in stepping if sequence.priority >= urgent]
        plan.pauses = len(going) < len(stepping)
        free_cells += len(stepping) - len(going)
        stepping = going
    plan.chunks.extend((sequence, 1) for sequence in stepping)
    _prefill(plan, prefilling, free_cells, _budget(plan, prefilling, config, conditions, costs))
    return plan


def _preempt(plan: StepPlan, kept: list[Sequence]) -> int:
    """Let the worst-ranked sequence give way; return the cells that are free by that."""
    victim = kept.pop()
    plan.preempted.append(victim)
    return victim.own_cells


def _admit(
    plan: StepPlan,
    kept: list[Sequence],
    waiting: SequenceOf[Sequence],
    free_cells: int,
    config: EngineConfig,
) -> int:
    """Let waiting sequences in, best rank first, while slots and cells last.

    Returns:
        Free cells after what the admitted pin by sharing.
    """
    promised = sum(map(_promised, kept))
    followers = 0
    for candidate in sorted(waiting, key=lambda sequence: sequence.rank):
        if any(victim.rank < candidate.rank for victim in plan.preempted):
            return free_cells
        leaders = [each for each in [*kept, *plan.admitted] if not each.is_stepping]
        awaited = max((_worth_awaiting(candidate, leader) for leader in leaders), default=0)
        if config.shares_prefixes and awaited:
            followers += 1  # its place is not given to whoever comes after it
            promised += len(candidate.token_ids) - awaited
            continue
        room = config.max_sequences - len(kept) - len(plan.admitted) - followers
        lacking = candidate.unpinned_tokens + promised - free_cells
        victims = _victims(candidate, kept, needs_slot=room < 1, cells=lacking)
        if victims is None:
            plan.is_full = True
            return free_cells
        for victim in victims:
            free_cells += _preempt(plan, kept)
            promised -= _promised(victim)
        plan.admitted.append(candidate)
        to_compute = len(candidate.token_ids) - candidate.shareable_tokens
        promised += HEADROOM_CELLS + to_compute
        free_cells -= candidate.unpinned_tokens - to_compute
    return free_cells


def _victims(
    candidate: Sequence, kept: SequenceOf[Sequence], *, needs_slot: bool, cells: int
) -> list[Sequence] | None:
    """Whom ``candidate`` outranks and has to replace; None when that is not enough."""
    victims: list[Sequence] = []
    for victim in reversed(kept):
        if cells <= 0 and not needs_slot:
            break
        if victim.priority >= candidate.priority:
            return None
        victims.append(victim)
        cells -= victim.own_cells + _promised(victim)
        needs_slot = False
    return None if cells > 0 or needs_slot else victims


def _promised(sequence: Sequence) -> int:
    """Cells that whoever enters leaves free for a running sequence: to get through its prompt."""
    return HEADROOM_CELLS + (0 if sequence.is_stepping else sequence.pending_tokens)


def _worth_awaiting(candidate: Sequence, leader: Sequence) -> int:
    """How much of ``candidate``'s beginning it can share once ``leader`` has computed its prompt.

    0 when that is hardly more than now, or the leader does not come first.
    """
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
    """How many prompt tokens this step computes beside the running sequences' next tokens.

    Short prompts go through at once, best rank first. Of a long one so many that the step takes at
    most ``config.max_slowdown`` times as long as without them, and now and then some more.
    """
    steps = len(plan.chunks)
    most = config.step_tokens - steps
    if not steps or not prefilling:
        return most
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


def _prefill(
    plan: StepPlan, prefilling: SequenceOf[Sequence], free_cells: int, budget: int
) -> None:
    """Share out the budget, best rank first."""
    for sequence in prefilling:
        count = min(_to_compute(sequence), budget, free_cells)
        if count > 0:
            plan.chunks.append((sequence, count))
            budget -= count
            free_cells -= count


def _to_compute(sequence: Sequence) -> int:
    """Tokens of a prompt that are neither computed nor shared; those to replay come singly."""
    done = sequence.computed_tokens or sequence.shareable_tokens
    return max(0, sequence.prefill_end - done)
