"""The cost of each generation to its host: time of the device, and tokens that were computed."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inference.engine.embedding import EmbeddingEngine
from inference.engine.engine import Engine
from inference.messages import Embedding, Frame
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.engine.generations import (
    by_id,
    complete,
    drain,
    ending,
    fake_engine,
    generation,
    step_until,
)
from tests.inference.engine.test_embedding_engine import CountingBackend, job


class Stopwatch:
    """A clock that only decodes move, each by more than the one before."""

    def __init__(self) -> None:
        self.now = 0.0
        self.decodes = 0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def decode(self) -> None:
        """Let a decode take its time."""
        self.decodes += 1
        self.now += self.decodes / 7


def timed_engine(**fields: Any) -> tuple[Engine, FakeBackend, Stopwatch]:
    """An engine over a fake whose decodes take time."""
    clock = Stopwatch()
    engine, backend = fake_engine(clock=clock, **fields)
    backend.while_decoding = clock.decode
    return engine, backend, clock


def device_seconds(frames: dict[str, list[Frame]]) -> float:
    """The device time of all that has ended."""
    return sum(ending(mine).timings.device_seconds for mine in frames.values())


def prompt_tokens_computed(backend: FakeBackend, length: int) -> int:
    """Tokens of prompts of this length that went through the model."""
    spans = [span for batch in backend.decoded_batches for span in batch]
    return sum(max(0, min(length, span.start + len(span.token_ids)) - span.start) for span in spans)


def test_device_time_of_generations_is_the_time_of_all_decodes():
    engine, _, clock = timed_engine(max_sequences=3)
    items = [generation(f"g{n}", "p" * (3 + 9 * n), max_tokens=4 + 5 * n) for n in range(5)]
    frames = complete(engine, *items)
    assert device_seconds(frames) == pytest.approx(clock.now, rel=1e-12)
    assert clock.decodes > 10


def test_device_time_of_a_step_is_divided_by_tokens():
    engine, _, clock = timed_engine(step_tokens=64, prefill_budget_tokens=64)
    frames = complete(engine, generation("a", "x" * 15, max_tokens=1), generation("b", "yz y" * 5))
    first = clock.now - sum(n / 7 for n in range(2, clock.decodes + 1))
    assert ending(frames["a"]).timings.device_seconds == pytest.approx(first * 15 / 35)


def test_device_time_of_a_decode_that_was_stopped_counts():
    engine, backend, clock = timed_engine()

    def aborted() -> None:
        clock.decode()
        if clock.decodes == 2:
            backend.abort()

    backend.while_decoding = aborted
    frames = complete(engine, generation(max_tokens=3))
    end = ending(frames["g"])
    assert end.timings.device_seconds == pytest.approx(clock.now)
    assert (end.usage.computed_prompt_tokens, end.usage.computed_completion_tokens) == (6, 3)


def test_computed_tokens_leave_out_what_was_shared_and_repeat_what_was_computed_again():
    engine, backend, clock = timed_engine(kv_cells=64, max_sequences=3)
    prompts = ["a common beginning " + letter for letter in "xyz"]
    frames = complete(engine, *[generation(p, p, max_tokens=20) for p in prompts])
    usages = [ending(frames[prompt]).usage for prompt in prompts]
    length = len(prompts[0])
    assert backend.used_cells <= 64
    computed = [usage.computed_prompt_tokens for usage in usages]
    assert sum(computed) == prompt_tokens_computed(backend, length)
    assert all(usage.computed_completion_tokens == 20 for usage in usages)
    assert sum(computed) < len(prompts) * length  # some was shared
    assert device_seconds(frames) == pytest.approx(clock.now)


def test_computed_tokens_grow_when_a_preempted_generation_computes_its_prompt_again():
    engine, backend, _ = timed_engine(max_sequences=1, kept_sequences=0)
    engine.submit(generation("low", "the low one", priority=1, max_tokens=6))
    outputs = step_until(engine, lambda: len(backend.decoded_batches) == 4)
    outputs += engine.submit(generation("high", "!he low one", priority=3, max_tokens=3))
    frames = by_id([*outputs, *drain(engine)])
    low, high = ending(frames["low"]).usage, ending(frames["high"]).usage
    assert low.computed_prompt_tokens + high.computed_prompt_tokens == prompt_tokens_computed(
        backend, low.prompt_tokens
    )
    assert low.computed_prompt_tokens > low.prompt_tokens
    assert (low.completion_tokens, low.computed_completion_tokens) == (6, 6)


def test_device_time_of_embeddings_is_the_time_of_all_batches(monkeypatch):
    clock, backend = Stopwatch(), CountingBackend()
    real = backend.embed

    def embed(inputs: list[list[int]]) -> npt.NDArray[np.float32]:
        clock.decode()
        return real(inputs)

    monkeypatch.setattr(backend, "embed", embed)
    engine = EmbeddingEngine(backend, clock)
    jobs: list[Embedding] = [job("a", 5, 1, 2, 3, 4, 6, 1), job("b", 3, 3), job("gone", 2, 2, 2, 2)]
    outputs = [output for item in jobs for output in engine.submit(item)]
    outputs += engine.step()
    engine.cancel("gone")
    while not engine.is_idle:
        outputs += engine.step()
    frames = by_id(outputs)
    assert device_seconds(frames) == pytest.approx(clock.now)
    assert 0 < ending(frames["gone"]).usage.computed_prompt_tokens < 8
