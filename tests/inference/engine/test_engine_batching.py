"""Many generations on one backend: each says what it says alone, and ends once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine, Output
from inference.engine.fake_backend import FakeBackend
from inference.messages import Delta, Finished, Started
from tests.inference.engine.generations import (
    MANY_STEPS,
    alone,
    by_id,
    complete,
    drain,
    ending,
    fake_engine,
    generation,
    stored_cells,
    text_of,
    tokens_of,
)


def test_engine_mixes_no_generation_with_another():
    engine, backend = fake_engine(kv_cells=300, max_sequences=5, step_tokens=24)
    wanted = [
        generation(
            f"g{number}",
            f"{number}:" + "word " * (number % 7),
            max_tokens=1 + number * 5 % 23,
            priority=number % 4,
        )
        for number in range(40)
    ]
    outputs: list[Output] = []
    for number, item in enumerate(wanted):  # arrivals spread over the run
        outputs += engine.submit(item)
        for _ in range(number % 3):
            outputs += engine.step()
    frames = by_id([*outputs, *drain(engine)])

    assert frames.keys() == {item.id for item in wanted}
    for item in wanted:
        mine = frames[item.id]
        assert text_of(mine) == alone(item)
        assert mine[0] == Started(len(item.prompt_token_ids))
        assert sum(isinstance(frame, Started) for frame in mine) == 1
        end = ending(mine)
        assert end.reason == "length"
        assert end.usage.completion_tokens == len(tokens_of(mine)) == item.max_tokens
        assert end.usage.prompt_tokens == len(item.prompt_token_ids)
    engine.check_integrity()
    assert (engine.used_cells, engine.running_sequences, engine.waiting_sequences) == (0, 0, 0)
    assert stored_cells(backend, engine.config) == 0
    assert backend.samplers_open == 0


def test_engine_prefills_a_long_prompt_beside_running_decodes():
    engine, backend = fake_engine(step_tokens=32, prefill_budget_tokens=8)
    engine.submit(generation("short", "hi", max_tokens=40))
    engine.step()
    engine.submit(generation("long", "x" * 60, max_tokens=2))
    deltas = [by_id(engine.step()) for _ in range(9)]
    assert all(len(tokens_of(frames.get("short", []))) == 1 for frames in deltas)
    assert ["long" in frames and bool(tokens_of(frames["long"])) for frames in deltas] == [
        *[False] * 7,
        True,
        True,
    ]
    assert all(
        sum(len(span.token_ids) for span in batch) <= 9 for batch in backend.decoded_batches[1:]
    )


def test_engine_serves_a_higher_priority_first():
    engine, _ = fake_engine(max_sequences=1)
    for id_, priority in (("low", 1), ("old", 2), ("new", 2), ("high", 3)):
        engine.submit(generation(id_, max_tokens=2, priority=priority))
    finished = [id_ for id_, frame in drain(engine) if isinstance(frame, Finished)]
    assert finished == ["high", "old", "new", "low"]


def test_engine_counts_what_runs_and_waits():
    engine, _ = fake_engine(max_sequences=2)
    for number in range(3):
        engine.submit(generation(f"g{number}", "four"))
    assert (engine.running_sequences, engine.waiting_sequences, engine.is_idle) == (0, 3, False)
    engine.step()
    assert (engine.running_sequences, engine.waiting_sequences) == (2, 1)
    assert engine.used_cells == 8


def test_engine_times_a_generation_by_its_clock():
    now = 100.0
    backend = FakeBackend(64)
    engine = Engine(backend, EngineConfig(64, 2), clock=lambda: now)
    engine.submit(generation(max_tokens=3))
    now = 101.0
    engine.step()
    now = 103.5
    end = ending(by_id(drain(engine))["g"])
    assert (end.timings.prefill_seconds, end.timings.decode_seconds) == (1.0, 2.5)


@pytest.mark.parametrize("count", [1, 3])
def test_engine_gives_logprobs_with_as_many_alternatives_as_asked(count):
    engine, _ = fake_engine()
    frames = complete(engine, generation(max_tokens=4, top_logprobs=count))["g"]
    entries = [entry for frame in frames if isinstance(frame, Delta) for entry in frame.logprobs]
    assert "".join(entry.token for entry in entries) == text_of(frames)
    assert [len(entry.top) for entry in entries] == [count] * 4
    assert all(entry.top[0][0] == entry.token for entry in entries)


EVENTS = st.lists(
    st.tuples(
        st.integers(1, 30),  # prompt tokens
        st.integers(1, 12),  # new tokens
        st.integers(0, 3),  # priority
        st.integers(0, 4),  # steps before it arrives
        st.none() | st.integers(0, 12),  # steps after which it is cancelled
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=150)
@given(
    events=EVENTS,
    kv_cells=st.integers(42, 80),
    missing_cells=st.integers(0, 10),
    max_sequences=st.integers(1, 5),
    budget=st.integers(1, 8),
)
def test_engine_keeps_every_promise_under_any_load(
    events, kv_cells, missing_cells, max_sequences, budget
):
    """With pre-emption, cancellation, and a backend that at times has too few cells."""
    engine, backend = fake_engine(
        kv_cells=kv_cells,
        max_sequences=max_sequences,
        step_tokens=max_sequences + 5,
        prefill_budget_tokens=budget,
    )
    wanted = {}
    cancel_at: dict[int, list[str]] = {}
    outputs: list[Output] = []
    steps = 0

    def step() -> None:
        nonlocal steps
        for id_ in cancel_at.pop(steps, []):
            engine.cancel(id_)
        backend.kv_cells = kv_cells
        if engine.running_sequences > 1 and steps % 3 == 0:
            backend.kv_cells -= missing_cells
        outputs.extend(engine.step())
        engine.check_integrity()
        assert stored_cells(backend, engine.config) == engine.used_cells <= kv_cells
        steps += 1

    for number, (prompt, new, priority, delay, cancelled) in enumerate(events):
        for _ in range(delay):
            step()
        item = generation(f"g{number}", bytes([number]) * prompt, max_tokens=new, priority=priority)
        wanted[item.id] = item
        outputs += engine.submit(item)
        if cancelled is not None:
            cancel_at.setdefault(steps + cancelled, []).append(item.id)
    while not engine.is_idle:
        assert steps < MANY_STEPS
        step()

    frames = by_id(outputs)
    assert frames.keys() == wanted.keys()
    for id_, item in wanted.items():
        end = ending(frames[id_])
        text = text_of(frames[id_])
        assert end.reason in ("length", "cancelled")
        assert text == alone(item)[: end.usage.completion_tokens]
        assert end.reason == "cancelled" or len(text) == item.max_tokens
    assert backend.samplers_open == 0
