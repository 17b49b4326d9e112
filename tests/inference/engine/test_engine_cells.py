"""KV cells: given back whatever happens, and recovered when there are too few."""

from collections.abc import Callable

import pytest

from inference.engine.backend import BackendError
from inference.engine.engine import Engine
from inference.messages import SamplingParameters
from tests.inference.engine.generations import (
    alone,
    by_id,
    complete,
    computed_tokens,
    drain,
    ending,
    fake_engine,
    generation,
    step_until,
    text_of,
    tokens_of,
)


def waits(engine: Engine) -> bool:
    return engine.running_sequences == 1 and engine.waiting_sequences == 1


def prefills(engine: Engine) -> bool:
    return engine.used_cells == 20


def decodes(engine: Engine) -> bool:
    return engine.used_cells > 60


@pytest.mark.parametrize(
    ("when", "slots", "text_begun"),
    [(waits, 1, False), (prefills, 2, False), (decodes, 2, True)],
)
def test_engine_cancel_frees_cells_at_once(
    when: Callable[[Engine], bool], slots: int, text_begun: bool
):
    engine, backend = fake_engine(max_sequences=slots, step_tokens=10)
    other = generation("other", max_tokens=12)
    victim = generation("victim", "y" * 50, max_tokens=40)
    outputs = []
    if slots == 1:
        outputs += engine.submit(other)
    outputs += engine.submit(victim)
    outputs += step_until(engine, lambda: when(engine))
    if slots > 1:
        outputs += engine.submit(other)

    engine.cancel("victim")
    step = engine.step()
    outputs += step
    end = ending(by_id(step)["victim"])
    assert end.reason == "cancelled"
    assert backend.used_cells == engine.used_cells
    running = sum(sequence.computed_tokens for sequence in engine._running)
    assert running <= len("prompt") + 12
    assert engine._cache.available_cells == engine.config.kv_cells - running
    frames = by_id([*outputs, *drain(engine)])
    assert text_of(frames["victim"]) == alone(victim)[: end.usage.completion_tokens]
    assert bool(text_of(frames["victim"])) == text_begun
    assert text_of(frames["other"]) == alone(other)
    engine.check_integrity()
    assert backend.samplers_open == 0


def test_engine_cancel_of_what_has_ended_is_ignored():
    engine, _ = fake_engine()
    frames = complete(engine, generation())
    engine.cancel("g")
    engine.cancel("never seen")
    assert engine.step() == []
    assert ending(frames["g"]).reason == "length"


def test_engine_loses_nothing_when_a_decode_is_aborted():
    engine, backend = fake_engine(step_tokens=16)
    wanted = [generation(f"g{n}", "p" * (5 + 9 * n), max_tokens=10) for n in range(3)]
    outputs = [output for item in wanted for output in engine.submit(item)]
    decodes_begun = 0

    def abort_every_other() -> None:
        nonlocal decodes_begun
        decodes_begun += 1
        if decodes_begun % 2:
            backend.abort()

    backend.while_decoding = abort_every_other
    while not engine.is_idle:
        outputs += engine.step()
        engine.check_integrity()
    frames = by_id(outputs)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]
    assert decodes_begun > 10


def test_engine_cancel_during_an_aborted_prefill_ends_only_that_one():
    engine, backend = fake_engine(step_tokens=64)
    other = generation("other", max_tokens=5)
    engine.submit(generation("victim", "v" * 60))
    engine.submit(other)

    def cancel() -> None:
        backend.while_decoding = None
        engine.cancel("victim")
        backend.abort()

    backend.while_decoding = cancel
    frames = by_id(drain(engine))
    end = ending(frames["victim"])
    assert (end.reason, end.usage.completion_tokens) == ("cancelled", 0)
    assert text_of(frames["other"]) == alone(other)


def test_engine_preempts_without_repeating_or_losing_a_token():
    engine, backend = fake_engine(kv_cells=64, max_sequences=4)
    wanted = [generation(f"g{n}", f"{n}", max_tokens=50, priority=n % 2) for n in range(4)]
    for item in wanted:
        engine.submit(item)
    frames = by_id(drain(engine))
    for item in wanted:
        assert text_of(frames[item.id]) == alone(item)
        assert ending(frames[item.id]).usage.completion_tokens == 50
    assert computed_tokens(backend) > 4 * 50  # some were computed twice
    assert backend.samplers_open == 0


def test_engine_keeps_a_sampler_through_pre_emption():
    """A new one would draw the first numbers again."""
    sampling = SamplingParameters(temperature=4.0, seed=3)
    wanted = [
        generation(f"g{n}", f"{n}", max_tokens=50, sampling=sampling, ignore_eos=True)
        for n in range(3)
    ]
    roomy, _ = fake_engine(kv_cells=256)
    tight, backend = fake_engine(kv_cells=64)
    expected, actual = complete(roomy, *wanted), complete(tight, *wanted)
    for item in wanted:
        assert tokens_of(actual[item.id]) == tokens_of(expected[item.id])
    assert backend.samplers_open == 0


def test_engine_recovers_when_the_backend_has_fewer_cells_than_it_said():
    engine, _ = fake_engine(kv_cells=200, backend_cells=70)
    wanted = [generation(f"g{n}", f"{n}" * 10, max_tokens=40) for n in range(4)]
    frames = complete(engine, *wanted)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]


def test_engine_gives_up_when_one_sequence_alone_does_not_fit():
    engine, _ = fake_engine(kv_cells=200, backend_cells=20)
    engine.submit(generation(prompt="p" * 30))
    with pytest.raises(BackendError, match="although a single sequence runs"):
        drain(engine)


def test_engine_integrity_check_finds_damage():
    engine, backend = fake_engine()
    engine.submit(generation())
    engine.step()
    engine.check_integrity()
    backend.truncate(engine._running[0].sequence_id, 5)
    with pytest.raises(BackendError, match="sequence 0 holds 5 cells, expected 6"):
        engine.check_integrity()
