"""What one step computes, as a function of counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.config import EngineConfig
from inference.engine.scheduler import HEADROOM_CELLS, StepPlan, schedule
from inference.engine.sequence import Sequence
from tests.inference.engine.generations import sequence

CONFIG = EngineConfig(kv_cells=200, max_sequences=4, step_tokens=40, prefill_budget_tokens=10)


def decoding(arrival: int, computed: int = 10, **fields: int) -> Sequence:
    return sequence(computed, 1, computed_tokens=computed, arrival=arrival, **fields)


def prefilling(arrival: int, prompt: int = 30, computed: int = 5, **fields: int) -> Sequence:
    return sequence(prompt, computed_tokens=computed, arrival=arrival, **fields)


def counts(plan: StepPlan) -> list[tuple[str, int]]:
    return [(item.id, count) for item, count in plan.chunks]


def ids(items: list[Sequence]) -> list[str]:
    return [item.id for item in items]


@pytest.mark.parametrize(
    ("running", "waiting", "chunks"),
    [
        pytest.param([prefilling(0), decoding(1)], [], [("s1", 1), ("s0", 10)], id="decode-first"),
        pytest.param([prefilling(0)], [], [("s0", 25)], id="no-budget-when-nobody-decodes"),
        pytest.param(
            [prefilling(0), prefilling(1)], [], [("s0", 25), ("s1", 15)], id="step-tokens"
        ),
        pytest.param(
            [prefilling(0, priority=1), prefilling(1, priority=3), decoding(2)],
            [],
            [("s2", 1), ("s1", 10)],
            id="prompt-by-priority",
        ),
        pytest.param(
            [decoding(0)],
            [sequence(6, arrival=1), sequence(6, arrival=2), sequence(6, arrival=3)],
            [("s0", 1), ("s1", 6), ("s2", 4)],
            id="admit-within-budget",
        ),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_scheduler_fills_a_step(running, waiting, chunks):
    assert counts(schedule(running, waiting, CONFIG)) == chunks


def test_scheduler_admits_by_rank_while_slots_last():
    waiting = [sequence(2, arrival=number, priority=number % 3) for number in range(6)]
    plan = schedule([], waiting, CONFIG)
    assert ids(plan.admitted) == ["s2", "s5", "s1", "s4"]


@pytest.mark.parametrize(("prompt", "admitted"), [(60, ["s1"]), (61, [])])
def test_scheduler_admits_only_with_headroom_for_those_present(prompt, admitted):
    free = 60 + HEADROOM_CELLS
    running = [decoding(0, CONFIG.kv_cells - free - 1)]
    assert ids(schedule(running, [sequence(prompt, arrival=1)], CONFIG).admitted) == admitted


def test_scheduler_lets_nobody_overtake_the_best_ranked():
    running = [decoding(0, 150)]
    waiting = [sequence(100, arrival=1), sequence(1, arrival=2)]
    assert schedule(running, waiting, CONFIG).admitted == []


def test_scheduler_admits_alone_what_fills_the_whole_cache():
    assert counts(schedule([], [sequence(CONFIG.kv_cells)], CONFIG)) == [("s0", 40)]


def test_scheduler_keeps_cells_for_the_rest_of_a_prompt():
    running = [prefilling(0, prompt=150, computed=5)]
    plan = schedule(running, [sequence(40, arrival=1)], CONFIG)
    assert (counts(plan), plan.admitted) == ([("s0", 40)], [])


def test_scheduler_admits_nobody_in_place_of_a_victim():
    running = [decoding(0, 20), decoding(1, 180)]
    plan = schedule(running, [sequence(1, arrival=2)], CONFIG)
    assert (ids(plan.preempted), ids(plan.admitted)) == (["s1"], [])


@pytest.mark.parametrize(
    ("priorities", "victims"),
    [((2, 2, 2, 2), ["s3"]), ((1, 2, 2, 2), ["s0"]), ((3, 1, 1, 2), ["s2"])],
)
def test_scheduler_preempts_the_newest_of_the_lowest_priority(priorities, victims):
    running = [
        decoding(arrival, 50, priority=priority) for arrival, priority in enumerate(priorities)
    ]
    plan = schedule(running, [sequence(1, arrival=9)], CONFIG)
    assert ids(plan.preempted) == victims
    assert plan.admitted == []
    assert len(plan.chunks) == 3


@st.composite
def states(draw: st.DrawFn) -> tuple[list[Sequence], list[Sequence], EngineConfig]:
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
        item = sequence(prompt, output, arrival=arrival, priority=draw(st.integers(0, 3)))
        if draw(st.booleans()) and output:
            item.computed_tokens = total - 1
        else:
            item.computed_tokens = draw(st.integers(0, total - 1))
        grows = item.is_decoding
        fits = cells + item.computed_tokens <= config.kv_cells
        fits &= grows or reserved + total <= config.kv_cells
        if fits and len(running) < config.max_sequences and draw(st.booleans()):
            running.append(item)
            cells += item.computed_tokens
            reserved += 0 if grows else total
        else:
            item.computed_tokens = 0
            waiting.append(item)
    return running, waiting, config


@given(state=states())
def test_scheduler_stays_within_every_limit_and_always_moves(state):
    running, waiting, config = state
    plan = schedule(running, waiting, config)
    kept = [item for item in running if item not in plan.preempted]
    planned = [item for item, _ in plan.chunks]
    decoders = [item for item in kept if item.is_decoding]

    assert len(planned) == len({item.id for item in planned})
    assert all(1 <= count <= item.pending_tokens for item, count in plan.chunks)
    assert sum(count for _, count in plan.chunks) <= config.step_tokens
    assert len(kept) + len(plan.admitted) <= config.max_sequences
    cells = sum(item.computed_tokens for item in kept) + sum(count for _, count in plan.chunks)
    assert cells <= config.kv_cells
    assert all(item in planned for item in decoders)
    if decoders:
        prompt_tokens = sum(count for item, count in plan.chunks if item not in decoders)
        assert prompt_tokens <= config.prefill_budget_tokens
    assert all(item in running and item not in planned for item in plan.preempted)
    assert all(item in waiting and item in planned for item in plan.admitted)
    assert all(keep.rank < gone.rank for keep in kept for gone in plan.preempted)
    outside = [item for item in waiting if item not in plan.admitted]
    assert all(came.rank < left.rank for came in plan.admitted for left in outside)
    assert bool(plan.chunks or plan.preempted) == bool(running or waiting)
