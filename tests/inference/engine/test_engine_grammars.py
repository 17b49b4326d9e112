"""Answers with a grammar wait for the vocabulary's table, and nobody waits with them."""

import threading
from itertools import count

from llguidance import LLTokenizer

from inference.engine.backend import GrammarError
from inference.engine.grammar import DeferredCompiler
from inference.messages import Failed, Usage
from tests.inference.engine.fake_backend import grammar_compiler
from tests.inference.engine.generations import (
    by_id,
    complete,
    drain,
    ending,
    fake_engine,
    generation,
    step_until,
    text_of,
)

GRAMMAR = 'start: "abc"'


def test_engine_lets_others_go_on_while_grammars_are_prepared():
    engine, backend = fake_engine()
    backend.ready_for_grammars = False
    engine.submit(generation("held", grammar=GRAMMAR))
    engine.submit(generation("free", max_tokens=50))
    early = [engine.step() for _ in range(5)]
    assert {generation_id for frames in early for generation_id, _ in frames} == {"free"}
    backend.ready_for_grammars = True
    late = by_id(step_until(engine, lambda: engine.is_idle))
    assert text_of(late["held"]) == "abc"
    assert ending(late["free"]).usage.completion_tokens == 50


def test_engine_prepares_grammars_at_once_where_nobody_is_held_up():
    engine, backend = fake_engine()
    backend.ready_for_grammars = False
    frames = complete(engine, generation("first", grammar=GRAMMAR))
    assert text_of(frames["first"]) == "abc"


def test_engine_serves_who_waits_behind_an_answer_with_a_grammar():
    engine, backend = fake_engine(max_sequences=1)
    backend.ready_for_grammars = False
    engine.submit(generation("held", grammar=GRAMMAR, priority=3))
    frames = complete(engine, generation("free", max_tokens=4))
    assert list(frames) == ["free", "held"]


def test_engine_tells_what_a_failed_answer_has_cost(monkeypatch):
    ticks = count(0.0, 0.125)
    engine, backend = fake_engine(clock=lambda: next(ticks))
    refused = GrammarError("no token fits")
    real = backend.sample

    def sample(sampler, span_index, output=0):
        if len(sampler.output) == 2:
            raise refused
        return real(sampler, span_index, output)

    monkeypatch.setattr(backend, "sample", sample)
    outputs = engine.submit(generation(grammar=GRAMMAR))
    *_, (_, failed) = [*outputs, *drain(engine)]
    assert isinstance(failed, Failed)
    assert failed.usage == Usage(6, 2, computed_prompt_tokens=6, computed_completion_tokens=2)
    assert failed.timings.device_seconds == 3 * 0.125
    assert failed.timings.prefill_seconds > 0


def test_deferred_compiler_is_made_once_when_first_asked_for():
    asked = threading.Event()
    release = threading.Event()
    made: list[LLTokenizer | None] = []

    def make() -> LLTokenizer | None:
        asked.set()
        assert release.wait(10)
        made.append(grammar_compiler()._tokenizer)
        return made[0]

    compiler = DeferredCompiler(make)
    assert not asked.is_set()
    assert not compiler.is_ready()
    assert asked.wait(10)
    assert not compiler.is_ready()
    finished = threading.Thread(target=compiler.finish)
    finished.start()
    finished.join(0.05)
    assert finished.is_alive()
    release.set()
    finished.join(10)
    assert not finished.is_alive()
    assert compiler.get() is compiler.get()
    assert compiler.is_ready()
    assert len(made) == 1
    matcher = compiler.get().matcher(GRAMMAR)
    assert not matcher.excluded()[ord("a")]
    assert matcher.excluded()[ord("b")]
