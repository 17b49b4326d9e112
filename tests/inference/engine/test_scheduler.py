"""The plan of one step as a function of counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.config import EngineConfig
from inference.engine.scheduler import (
    HEADROOM_CELLS,
    MAX_PAUSED_STEPS,
    SHORT_PROMPT_TOKENS,
    STALL_EVERY_STEPS,
    STALL_SLOWDOWN,
    WORTH_WAITING_TOKENS,
    Conditions,
    StepPlan,
    schedule,
)
from inference.engine.sequence import Sequence
from inference.engine.step_cost import StepCosts
from tests.inference.engine.generations import sequence

CONFIG = EngineConfig(kv_cells=200, max_sequences=4, step_tokens=40, prefill_budget_tokens=10)
ROOMY = EngineConfig(kv_cells=2000, max_sequences=4, step_tokens=400, prefill_budget_tokens=10)
BEGINNING = b"b" * 60


class LinearCosts(StepCosts):
    """Costs that are known: every token beyond the first takes ``per_token`` of the first."""

    def __init__(self, per_token: float) -> None:
        super().__init__()
        self.per_token = per_token

    def seconds(self, tokens: int) -> float:
        return 1.0 + self.per_token * (tokens - 1)

    def prompt_tokens_within(self, answer_tokens: int, slowdown: float, limit: int) -> int:
        room = self.seconds(answer_tokens) * (slowdown - 1)
        return limit if room >= limit * self.per_token else int(room / self.per_token + 1e-9)


UNKNOWN = StepCosts()


def decoding(arrival: int, computed: int = 10, **fields: Any) -> Sequence:
    return sequence(computed, 1, computed_tokens=computed, arrival=arrival, sequence_id=0, **fields)


def prefilling(arrival: int, prompt: int = 30, computed: int = 5, **fields: Any) -> Sequence:
    return sequence(prompt, computed_tokens=computed, arrival=arrival, sequence_id=0, **fields)


def sharing(arrival: int, beginning: int = 60, end: int = 4, **fields: Any) -> Sequence:
    """A sequence that begins as others of its kind do, and ends in its own way."""
    prompt = BEGINNING[:beginning] + bytes([arrival]) * end
    return sequence(prompt=prompt, arrival=arrival, **fields)


def plan_for(
    running: list[Sequence],
    waiting: list[Sequence],
    config: EngineConfig = CONFIG,
    costs: StepCosts = UNKNOWN,
    **conditions: int,
) -> StepPlan:
    """The plan when all cells that no running sequence has are free."""
    free = config.kv_cells - sum(item.own_cells for item in running)
    return schedule(
        running, waiting, config, Conditions(**{"free_cells": free, **conditions}), costs
    )


def counts(plan: StepPlan) -> list[tuple[str, int]]:
    return [(item.id, count) for item, count in plan.chunks]


def ids(items: list[Sequence]) -> list[str]:
    return [item.id for item in items]


@pytest.mark.parametrize(
    ("running", "waiting", "chunks"),
    [
        pytest.param(
            [prefilling(0, 500), decoding(1)], [], [("s1", 1), ("s0", 10)], id="decode-first"
        ),
        pytest.param([prefilling(0, 300)], [], [("s0", 295)], id="no-budget-when-nobody-decodes"),
        pytest.param(
            [prefilling(0, 300), prefilling(1, 300)],
            [],
            [("s0", 295), ("s1", 105)],
            id="step-tokens",
        ),
        pytest.param(
            [prefilling(0, 500, priority=1), prefilling(1, 500), decoding(2)],
            [],
            [("s2", 1), ("s1", 10)],
            id="prompt-by-priority",
        ),
        pytest.param(
            [decoding(0)],
            [sequence(6, arrival=1), sequence(300, arrival=2), sequence(6, arrival=3)],
            [("s0", 1), ("s1", 6), ("s2", 4)],
            id="admit-within-budget",
        ),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_scheduler_fills_a_step(running, waiting, chunks):
    assert counts(plan_for(running, waiting, ROOMY)) == chunks


def test_scheduler_admits_by_rank_while_slots_last():
    waiting = [sequence(2, arrival=number, priority=number % 3) for number in range(6)]
    assert ids(plan_for([], waiting).admitted) == ["s2", "s5", "s1", "s4"]


@pytest.mark.parametrize(("prompt", "admitted"), [(60, ["s1"]), (61, [])])
def test_scheduler_admits_only_with_headroom_for_those_present(prompt, admitted):
    free = 60 + HEADROOM_CELLS
    running = [decoding(0, CONFIG.kv_cells - free - 1)]
    assert ids(plan_for(running, [sequence(prompt, arrival=1)]).admitted) == admitted


def test_scheduler_lets_nobody_overtake_the_best_ranked():
    waiting = [sequence(100, arrival=1), sequence(1, arrival=2)]
    assert plan_for([decoding(0, 150)], waiting).admitted == []


def test_scheduler_admits_alone_what_fills_the_whole_cache():
    assert counts(plan_for([], [sequence(CONFIG.kv_cells)])) == [("s0", 40)]


def test_scheduler_keeps_cells_for_the_rest_of_a_prompt():
    plan = plan_for([prefilling(0, prompt=150, computed=5)], [sequence(40, arrival=1)])
    assert (counts(plan), plan.admitted) == ([("s0", 40)], [])


def test_scheduler_admits_no_more_long_prompts_than_have_cells_in_the_end():
    """None of them has a cell yet, and all fit in by what is free."""
    fits_twice = (CONFIG.kv_cells - HEADROOM_CELLS) // 2
    for tokens, admitted in ((fits_twice, ["s0", "s1"]), (fits_twice + 1, ["s0"])):
        waiting = [sequence(tokens, arrival=number) for number in range(4)]
        assert ids(plan_for([], waiting).admitted) == admitted


def test_scheduler_needs_no_cells_for_what_running_sequences_hold():
    candidate = sequence(160, arrival=1)
    running = [decoding(0, 150)]
    assert plan_for(running, [candidate]).admitted == []
    candidate.shareable_tokens, candidate.unpinned_tokens = 150, 10
    plan = plan_for(running, [candidate])
    assert counts(plan) == [("s0", 1), ("s1", 10)]


def test_scheduler_computes_only_what_cannot_be_shared():
    """Kept cells are free cells, and held by the sequence that shares them."""
    candidate, other = sequence(150, arrival=0), sequence(50, arrival=1)
    candidate.shareable_tokens = 140
    plan = plan_for([], [candidate, other])
    assert counts(plan) == [("s0", 10)]
    assert plan.admitted == [candidate]


@pytest.mark.parametrize("free_cells", [0, 1])
def test_scheduler_admits_nobody_in_place_of_a_victim(free_cells):
    running = [decoding(0, 20), decoding(1, 180)]
    plan = plan_for(running, [sequence(1, arrival=2)], free_cells=free_cells)
    assert (ids(plan.preempted), ids(plan.admitted)) == (["s1"], [])


@pytest.mark.parametrize(
    ("priorities", "victims"),
    [((2, 2, 2, 2), ["s3"]), ((1, 2, 2, 2), ["s0"]), ((3, 1, 1, 2), ["s2"])],
)
def test_scheduler_preempts_the_newest_of_the_lowest_priority(priorities, victims):
    running = [
        decoding(arrival, 50, priority=priority) for arrival, priority in enumerate(priorities)
    ]
    plan = plan_for(running, [sequence(1, arrival=9)])
    assert ids(plan.preempted) == victims
    assert plan.admitted == []
    assert len(plan.chunks) == 3


# --- a beginning that another is computing ---


def test_scheduler_lets_one_of_two_compute_what_both_begin_with():
    plan = plan_for([], [sharing(0), sharing(1)], ROOMY)
    assert (ids(plan.admitted), counts(plan)) == (["s0"], [("s0", 64)])


def test_scheduler_waits_for_a_running_sequence_until_the_shared_part_is_known():
    leader, follower = sharing(0, computed_tokens=40, sequence_id=0), sharing(1)
    follower.shareable_tokens = 40
    assert plan_for([leader], [follower], ROOMY).admitted == []
    leader.computed_tokens = follower.shareable_tokens = 60
    plan = plan_for([leader], [follower], ROOMY)
    assert counts(plan) == [("s0", 4), ("s1", 4)]


@pytest.mark.parametrize(
    ("follower", "waits"),
    [
        pytest.param({}, True, id="same"),
        pytest.param({"priority": 3}, False, id="outranks-the-first"),
        pytest.param({"cache_salt": "other"}, False, id="another-tenant"),
        pytest.param({"beginning": WORTH_WAITING_TOKENS}, True, id="just-worth-it"),
        pytest.param({"beginning": WORTH_WAITING_TOKENS - 1}, False, id="small-gain"),
    ],
)
def test_scheduler_waits_for_a_shared_beginning_only_where_it_gains(follower, waits):
    leader = sharing(0, computed_tokens=5, sequence_id=0)
    plan = plan_for([leader], [sharing(1, **follower)], ROOMY)
    assert bool(plan.admitted) is not waits


def test_scheduler_waits_for_nobody_where_nothing_can_be_shared():
    config = EngineConfig(2000, 4, 400, 10, shares_prefixes=False)
    assert len(plan_for([], [sharing(0), sharing(1)], config).admitted) == 2


def test_scheduler_keeps_the_place_of_one_that_waits_for_a_beginning():
    leader = sharing(0, computed_tokens=5, sequence_id=0)
    waiting = [sharing(1), *(sequence(4, arrival=arrival) for arrival in range(2, 6))]
    assert ids(plan_for([leader], waiting, ROOMY).admitted) == ["s2", "s3"]


@pytest.mark.parametrize(("end", "admitted"), [(100, ["s2"]), (101, [])])
def test_scheduler_keeps_cells_for_the_own_part_of_one_that_waits(end, admitted):
    leader = sharing(0, end=1, computed_tokens=5, sequence_id=0)
    waiting = [sharing(1, end=end), sequence(200 - 61 - HEADROOM_CELLS - 100, arrival=2)]
    assert ids(plan_for([leader], waiting).admitted) == admitted


# --- taking the place of lower priorities ---


@pytest.mark.parametrize(
    ("priorities", "victims"),
    [
        pytest.param((1, 1, 2, 2), ["s1"], id="newest-of-the-lowest"),
        pytest.param((2, 3, 3, 3), ["s0"], id="only-one-is-lower"),
        pytest.param((3, 3, 3, 3), [], id="never-an-equal"),
    ],
)
def test_scheduler_replaces_a_lower_priority_when_slots_are_out(priorities, victims):
    running = [decoding(arrival, priority=priority) for arrival, priority in enumerate(priorities)]
    plan = plan_for(running, [sequence(5, arrival=9, priority=3)])
    assert ids(plan.preempted) == victims
    assert ids(plan.admitted) == (["s9"] if victims else [])
    assert not set(victims) & {id_ for id_, _ in counts(plan)}


@pytest.mark.parametrize(
    ("prompt", "victims", "admitted"),
    [
        pytest.param(50 - 3 * HEADROOM_CELLS, [], ["s9"], id="fits"),
        pytest.param(60, ["s2"], ["s9"], id="one-gives-way"),
        pytest.param(100, ["s2", "s1"], ["s9"], id="two-give-way"),
        pytest.param(130, ["s2", "s1"], ["s9"], id="just-fits-then"),
        pytest.param(133, [], [], id="in-vain"),
    ],
)
def test_scheduler_replaces_lower_priorities_when_cells_are_out(prompt, victims, admitted):
    running = [decoding(0, 49, priority=3), *(decoding(n, 49, priority=1) for n in (1, 2))]
    waiting = [sequence(prompt, arrival=9, priority=3)]
    plan = plan_for(running, waiting)
    assert (ids(plan.preempted), ids(plan.admitted)) == (victims, admitted)


def test_scheduler_replaces_one_for_each_that_comes():
    running = [decoding(number, priority=1) for number in range(4)]
    waiting = [sequence(3, arrival=4 + number, priority=number) for number in (1, 2, 3)]
    plan = plan_for(running, waiting)
    assert ids(plan.admitted) == ["s7", "s6"]
    assert ids(plan.preempted) == ["s3", "s2"]


def test_scheduler_lets_several_in_on_what_one_gives_up():
    running = [prefilling(0, 100, 0, priority=1)]
    waiting = [sequence(90, arrival=number, priority=3) for number in (1, 2)]
    plan = plan_for(running, waiting)
    assert (ids(plan.preempted), ids(plan.admitted)) == (["s0"], ["s1", "s2"])


def test_scheduler_gives_a_victims_cells_to_no_lower_rank():
    running = [prefilling(0, 130, 0, priority=2)]
    waiting = [sequence(100, arrival=1, priority=3), sequence(5, arrival=2, priority=2)]
    plan = plan_for(running, waiting)
    assert (ids(plan.preempted), ids(plan.admitted)) == (["s0"], ["s1"])


# --- how much prompt beside the streams that run ---


@pytest.mark.parametrize(
    ("max_slowdown", "streams", "tokens"),
    [
        pytest.param(2.0, 1, 8, id="twice-as-long"),
        pytest.param(1.5, 1, 4, id="half-as-long-again"),
        pytest.param(2.0, 3, 10, id="of-a-longer-step"),
        pytest.param(1.0, 1, 1, id="always-something"),
        pytest.param(100.0, 1, 399, id="whole-step"),
    ],
)
def test_scheduler_keeps_a_step_within_the_slowdown_promised(max_slowdown, streams, tokens):
    config = EngineConfig(2000, 4, 400, 10, max_slowdown=max_slowdown)
    running = [prefilling(9, 900, 0), *map(decoding, range(streams))]
    plan = plan_for(running, [], config, LinearCosts(0.125))
    assert counts(plan)[streams:] == [("s9", tokens)]
    assert not plan.stalls


def test_scheduler_begins_with_the_budget_it_is_given():
    config = EngineConfig(2000, 4)
    plan = plan_for([prefilling(0, 900, 0), decoding(1)], [], config)
    assert counts(plan) == [("s1", 1), ("s0", 128)]


@pytest.mark.parametrize(
    ("prompts", "computed"),
    [
        pytest.param([SHORT_PROMPT_TOKENS], [SHORT_PROMPT_TOKENS], id="short"),
        pytest.param([SHORT_PROMPT_TOKENS + 1], [10], id="long"),
        pytest.param([50, 70, 30], [50, 70], id="as-many-as-are-short-together"),
        pytest.param([50, 300], [50], id="long-after-short"),
        pytest.param([4, 300], [4, 6], id="budget-for-the-long-one"),
        pytest.param([300, 50], [10], id="nobody-overtakes"),
    ],
)
def test_scheduler_computes_short_prompts_at_once(prompts, computed):
    waiting = [sequence(tokens, arrival=1 + number) for number, tokens in enumerate(prompts)]
    plan = plan_for([decoding(0)], waiting, ROOMY, LinearCosts(0.1))
    assert [count for _, count in counts(plan)[1:]] == computed
    assert not plan.stalls


@pytest.mark.parametrize(
    ("steps_since_stall", "slowdown"),
    [
        pytest.param(STALL_EVERY_STEPS, STALL_SLOWDOWN, id="now-and-then"),
        pytest.param(STALL_EVERY_STEPS - 1, ROOMY.max_slowdown, id="not-again-so-soon"),
    ],
)
def test_scheduler_takes_more_of_a_long_prompt_now_and_then(steps_since_stall, slowdown):
    running = [decoding(0), prefilling(1, 900, 0)]
    costs = LinearCosts(0.125)
    plan = plan_for(running, [], ROOMY, costs, steps_since_stall=steps_since_stall)
    assert counts(plan) == [("s0", 1), ("s1", (slowdown - 1) * 8)]
    assert plan.stalls == (slowdown == STALL_SLOWDOWN)


# --- standing still for a higher priority ---


@pytest.mark.parametrize(
    ("prompt_priority", "going", "pauses"),
    [(1, ["s1", "s2", "s3"], False), (2, ["s2", "s3"], True), (3, ["s3"], True)],
)
def test_scheduler_pauses_lower_priorities_for_a_prompt(prompt_priority, going, pauses):
    running = [
        prefilling(0, priority=prompt_priority),
        *(decoding(priority, priority=priority) for priority in (1, 2, 3)),
    ]
    plan = plan_for(running, [])
    assert sorted(id_ for id_, _ in counts(plan) if id_ != "s0") == going
    assert plan.pauses == pauses


def test_scheduler_pauses_nobody_too_long():
    running = [prefilling(0, priority=3), decoding(1, priority=1)]
    assert plan_for(running, [], paused_steps=MAX_PAUSED_STEPS - 1).pauses
    plan = plan_for(running, [], paused_steps=MAX_PAUSED_STEPS)
    assert not plan.pauses
    assert counts(plan) == [("s1", 1), ("s0", 25)]


def test_scheduler_gives_the_whole_step_to_a_prompt_for_which_all_others_pause():
    plan = plan_for([prefilling(0, 100, 0, priority=3), decoding(1, priority=1)], [])
    assert counts(plan) == [("s0", 40)]


def test_scheduler_gives_the_last_cells_to_a_prompt_for_which_others_pause():
    running = [prefilling(0, priority=3), decoding(1, priority=1)]
    assert counts(plan_for(running, [], free_cells=1)) == [("s0", 1)]


@st.composite
def states(draw: st.DrawFn) -> tuple[list[Sequence], list[Sequence], EngineConfig, Conditions]:
    """States that an engine can be in: prompts in progress were admitted with all their cells."""
    config = EngineConfig(
        kv_cells=draw(st.integers(8, 120)),
        max_sequences=draw(st.integers(1, 5)),
        step_tokens=draw(st.integers(5, 30)),
        prefill_budget_tokens=draw(st.integers(1, 12)),
    )
    running: list[Sequence] = []
    waiting: list[Sequence] = []
    cells = reserved = 0
    for arrival in range(draw(st.integers(0, 8))):
        prompt = draw(st.integers(1, config.kv_cells - 1))
        output = draw(st.integers(0, min(6, config.kv_cells - prompt)))
        total = prompt + output
        item = sequence(
            prompt=(b"b" * 20)[:prompt] + bytes([arrival]) * (prompt - 20),
            output_tokens=output,
            arrival=arrival,
            priority=draw(st.integers(0, 3)),
            sequence_id=0,
        )
        if draw(st.booleans()) and output:
            item.computed_tokens = total - 1
        else:
            item.computed_tokens = draw(st.integers(0, total - 1))
        grows = item.is_stepping
        fits = cells + item.computed_tokens <= config.kv_cells
        fits &= grows or reserved + total <= config.kv_cells
        if fits and len(running) < config.max_sequences and draw(st.booleans()):
            item.own_cells = item.computed_tokens
            running.append(item)
            cells += item.computed_tokens
            reserved += 0 if grows else total
        else:
            item.computed_tokens = 0
            item.sequence_id = -1
            item.shareable_tokens = draw(st.integers(0, min(total - 1, config.kv_cells - cells)))
            waiting.append(item)
    conditions = Conditions(
        config.kv_cells - cells, draw(st.integers(0, 30)), draw(st.integers(0, MAX_PAUSED_STEPS))
    )
    return running, waiting, config, conditions


@given(state=states(), per_token=st.none() | st.floats(0, 2))
def test_scheduler_stays_within_every_limit_and_always_moves(state, per_token):
    running, waiting, config, conditions = state
    costs = UNKNOWN if per_token is None else LinearCosts(per_token)
    plan = schedule(running, waiting, config, conditions, costs)
    kept = [item for item in running if item not in plan.preempted]
    planned = [item for item, _ in plan.chunks]
    steppers = [item for item in kept if item.is_stepping]
    going = [item for item in steppers if item in planned]
    prompts = [(item, count) for item, count in plan.chunks if item not in going]

    assert len(planned) == len({item.id for item in planned})
    for item, count in plan.chunks:
        assert 1 <= count <= item.pending_tokens - item.shareable_tokens
    assert sum(count for _, count in plan.chunks) <= config.step_tokens
    assert len(kept) + len(plan.admitted) <= config.max_sequences
    cells = sum(item.computed_tokens for item in kept) + sum(count for _, count in plan.chunks)
    cells += sum(item.shareable_tokens for item in plan.admitted)
    assert cells <= config.kv_cells

    paused = [item for item in steppers if item not in going]
    assert bool(paused) == plan.pauses
    assert not paused or conditions.paused_steps < MAX_PAUSED_STEPS
    assert all(any(item.priority < other.priority for other, _ in prompts) for item in paused)
    prompt_tokens = sum(count for _, count in prompts)
    if per_token is None:
        is_long = prompt_tokens > config.prefill_budget_tokens
    else:
        within = costs.prompt_tokens_within(len(going), config.max_slowdown, config.step_tokens)
        is_long = prompt_tokens > max(1, within or 0)
    if going and is_long:
        assert prompt_tokens <= SHORT_PROMPT_TOKENS

    assert all(item in running and item not in planned for item in plan.preempted)
    assert all(item in waiting for item in plan.admitted)
    assert all(keep.rank < gone.rank for keep in kept for gone in plan.preempted)
    assert all(came.rank < gone.rank for came in plan.admitted for gone in plan.preempted)
    if plan.admitted:
        assert all(plan.admitted[0].priority > gone.priority for gone in plan.preempted)
    assert bool(plan.chunks or plan.preempted) == bool(running or waiting)


@given(state=states())
def test_scheduler_admits_nobody_before_a_better_ranked_that_could_come_in(state):
    running, waiting, config, conditions = state
    plan = schedule(running, waiting, config, conditions, UNKNOWN)
    for item in waiting:
        if item not in plan.admitted and any(item.rank < came.rank for came in plan.admitted):
            in_flight = [each for each in [*running, *plan.admitted] if not each.is_stepping]
            assert any(each.rank < item.rank for each in in_flight)
