"""Many generations on one backend: each says what it says alone, and ends once."""

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine, Output
from inference.engine.scheduler import MAX_PAUSED_STEPS, SHORT_PROMPT_TOKENS, STALL_EVERY_STEPS
from inference.messages import Delta, Finished, Started
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.engine.generations import (
    MANY_STEPS,
    alone,
    by_id,
    complete,
    drain,
    ending,
    fake_engine,
    generation,
    step_until,
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
        assert mine[0] == Started(len(item.prompt_token_ids), ending(mine).usage.cached_tokens)
        assert sum(isinstance(frame, Started) for frame in mine) == 1
        end = ending(mine)
        assert end.reason == "length"
        assert end.usage.completion_tokens == len(tokens_of(mine)) == item.max_tokens
        assert end.usage.prompt_tokens == len(item.prompt_token_ids)
    engine.check_integrity()
    assert (engine.running_sequences, engine.waiting_sequences) == (0, 0)
    assert backend.used_cells == engine.used_cells
    assert engine._cache.available_cells == engine.config.kv_cells
    assert backend.samplers_open == 0


def test_engine_prefills_a_long_prompt_beside_running_decodes():
    """A step of two tokens takes half as long again as one of a single token, and so on."""
    backend = FakeBackend(2000)
    backend_seconds = 0.0

    def take_time() -> None:
        nonlocal backend_seconds
        tokens = sum(len(span.token_ids) for span in backend.decoded_batches[-1])
        backend_seconds += 0.5 + 0.5 * tokens

    backend.while_decoding = take_time
    engine = Engine(backend, EngineConfig(2000, 4), clock=lambda: backend_seconds)
    engine.submit(generation("short", "hi", max_tokens=400))
    for _ in range(20):
        engine.step()
    begin = len(backend.decoded_batches)
    engine.submit(generation("long", "x" * 900, max_tokens=2))
    frames = by_id(step_until(engine, lambda: "long" not in engine._by_id))
    assert text_of(frames["long"]) == alone(generation("long", "x" * 900, max_tokens=2))
    batches = backend.decoded_batches[begin:]
    assert len(tokens_of(frames["short"])) == len(batches)
    sizes = [sum(len(span.token_ids) for span in batch) for batch in batches]
    longer = [size for size in sizes if size > 3]
    assert len(sizes) > 10
    assert max(longer) <= SHORT_PROMPT_TOKENS + 1
    # Besides those now and then: one to learn the price of more tokens, and the short rest.
    assert len(longer) <= 1 + len(sizes) // STALL_EVERY_STEPS + 2


def test_engine_serves_a_higher_priority_first():
    engine, _ = fake_engine(max_sequences=1)
    for id_, priority in (("low", 1), ("old", 2), ("new", 2), ("high", 3)):
        engine.submit(generation(id_, max_tokens=2, priority=priority))
    finished = [id_ for id_, frame in drain(engine) if isinstance(frame, Finished)]
    assert finished == ["high", "old", "new", "low"]


def test_engine_lets_a_low_priority_stand_still_for_a_few_steps_only():
    engine, backend = fake_engine(kv_cells=800, step_tokens=16)
    engine.submit(generation("low", "low", max_tokens=200, priority=1))
    engine.step()
    engine.submit(generation("high", "h" * 500, max_tokens=2, priority=3))
    begin = len(backend.decoded_batches)
    outputs = step_until(engine, lambda: "high" not in engine._by_id)
    assert text_of(by_id(outputs)["high"]) == alone(generation(prompt="h" * 500, max_tokens=2))
    sizes = [len(batch) for batch in backend.decoded_batches[begin:]]
    assert sizes[: MAX_PAUSED_STEPS + 2] == [*[1] * MAX_PAUSED_STEPS, 2, 1]


def test_engine_counts_what_runs_and_waits():
    engine, _ = fake_engine(max_sequences=2)
    for number in range(3):
        engine.submit(generation(f"g{number}", f"{number}our"))
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
        st.integers(0, 30),  # how many of them are as in other prompts
        st.integers(0, 3).map(lambda number: "other" * (number == 0)),  # salt
        st.integers(1, 12),  # new tokens
        st.integers(0, 3),  # priority
        st.integers(0, 4),  # steps before it arrives
        st.none() | st.integers(0, 12),  # steps after which it is cancelled
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=200)
@given(
    events=EVENTS,
    kv_cells=st.integers(42, 80),
    missing_cells=st.integers(0, 10),
    max_sequences=st.integers(1, 5),
    kept=st.tuples(st.integers(0, 3), st.integers(0, 40)),
    recurrent=st.booleans(),
    aborts=st.sets(st.integers(0, 60)),
    tiled_pairs=st.integers(0, 8),
)
def test_engine_keeps_every_promise_under_any_load(
    events, kv_cells, missing_cells, max_sequences, kept, recurrent, aborts, tiled_pairs
):
    """Pre-emption, cancellation, aborts, and a backend that at times has too few cells."""
    engine, backend = fake_engine(
        kv_cells=kv_cells,
        max_sequences=max_sequences,
        step_tokens=max_sequences + 5,
        kept_sequences=kept[0],
        kept_cells=kept[1],
        recurrent=recurrent,
    )
    backend.tiled_pairs = tiled_pairs
    wanted = {}
    cancel_at: dict[int, list[str]] = {}
    outputs: list[Output] = []
    steps = 0

    def abort_some() -> None:
        if steps in aborts:
            backend.abort()

    backend.while_decoding = abort_some

    def step() -> None:
        nonlocal steps
        for id_ in cancel_at.pop(steps, []):
            engine.cancel(id_)
        backend.kv_cells = kv_cells
        if engine.running_sequences > 1 and steps % 3 == 0:
            backend.kv_cells -= missing_cells
        with mock.patch("inference.engine.batches.MIN_TILE_ROWS", 1):
            outputs.extend(engine.step())
        engine.check_integrity()
        assert backend.used_cells == engine.used_cells <= kv_cells
        steps += 1

    for number, event in enumerate(events):
        prompt, common, salt, new, priority, delay, cancelled = event
        for _ in range(delay):
            step()
        item = generation(
            f"g{number}",
            (b"b" * min(common, prompt)).ljust(prompt, bytes([number])),
            max_tokens=new,
            priority=priority,
            cache_salt=salt,
        )
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
