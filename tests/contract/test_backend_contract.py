"""Behaviour of every backend: one list for the fake and for llama.cpp."""

import numpy as np
import pytest

from inference.engine.backend import DecodeOutcome, Span
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.messages import Generation, SamplingParameters
from tests.contract.subjects import GREEDY, MAX_SEQUENCES, STEP_TOKENS, Subject
from tests.inference.engine.generations import complete, ending, text_of, tokens_of

TEXT = "The capital of France is"
OTHER = "One, two, three, four, five,"
# In logits. Another kernel, for another batch or processor, may round off by 1 or 2; a token out of
# place changes some by more than 10.
CLOSE = 2.0


def test_backend_counts_the_cells_of_each_sequence(subject: Subject):
    tokens = subject.encode(TEXT)
    subject.prefill(3, tokens)
    subject.prefill(5, tokens[:2])
    counts = [subject.backend.stored_tokens(slot) for slot in range(MAX_SEQUENCES)]
    assert counts == [0, 0, 0, len(tokens), 0, 2, 0, 0]


def test_backend_gives_logits_over_the_vocabulary(subject: Subject):
    subject.prefill(0, subject.encode(TEXT))
    logits = subject.backend.logits(0)
    assert logits.shape == (subject.backend.vocabulary_size,)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_backend_prefill_in_chunks_is_prefill_at_once(subject: Subject):
    tokens = subject.encode(TEXT)
    subject.prefill(0, tokens)
    at_once = subject.backend.logits(0).copy()
    backend = subject.backend
    assert backend.decode([Span(1, 0, tokens[:3], outputs=0)]) is DecodeOutcome.DONE
    subject.prefill(1, tokens[3:], start=3)
    np.testing.assert_allclose(backend.logits(0), at_once, atol=CLOSE)


def test_backend_keeps_sequences_of_a_batch_apart(subject: Subject):
    first, second = subject.encode(TEXT), subject.encode(OTHER)
    subject.prefill(0, first)
    first_alone = subject.backend.logits(0).copy()
    subject.prefill(1, second)
    second_alone = subject.backend.logits(0).copy()
    subject.forget_all()

    spans = [
        Span(2, 0, first, outputs=1),
        Span(4, 0, second[:4], outputs=0),
        Span(6, 0, second, outputs=1),
    ]
    assert subject.backend.decode(spans) is DecodeOutcome.DONE
    np.testing.assert_allclose(subject.backend.logits(0), first_alone, atol=CLOSE)
    np.testing.assert_allclose(subject.backend.logits(2), second_alone, atol=CLOSE)


def test_backend_truncate_forgets_the_end_of_a_sequence(subject: Subject):
    tokens, other = subject.encode(TEXT), subject.encode(OTHER)
    subject.prefill(0, tokens)
    wanted = subject.backend.logits(0).copy()
    subject.backend.truncate(0, 2)
    assert subject.backend.stored_tokens(0) == 2
    subject.prefill(0, other, start=2)
    subject.backend.truncate(0, 2)
    subject.prefill(0, tokens[2:], start=2)
    np.testing.assert_allclose(subject.backend.logits(0), wanted, atol=CLOSE)
    subject.backend.truncate(0, 0)
    assert subject.backend.stored_tokens(0) == 0


def test_backend_without_cells_says_so_and_loses_nothing(small_subject: Subject):
    subject, backend = small_subject, small_subject.backend
    tokens = (subject.encode(OTHER) * 99)[: subject.kv_cells - 8]
    subject.prefill(0, tokens)
    wanted = subject.greedy(1, tokens[:3], 2)
    backend.truncate(1, 0)

    too_much = Span(1, 0, tokens[:9], outputs=1)
    assert backend.decode([too_much]) is DecodeOutcome.NO_CELLS
    backend.truncate(1, 0)
    assert [backend.stored_tokens(slot) for slot in (0, 1)] == [len(tokens), 0]
    assert subject.greedy(1, tokens[:3], 2) == wanted
    backend.truncate(0, 0)
    backend.truncate(1, 0)
    assert backend.decode([too_much]) is DecodeOutcome.DONE


def test_backend_abort_ends_a_long_prefill_that_can_be_redone(subject: Subject):
    backend = subject.backend
    tokens = (subject.encode(OTHER) * 99)[:STEP_TOKENS]
    subject.prefill(1, tokens[:6])
    span = Span(0, 0, tokens, outputs=1)
    assert subject.abort_during(lambda: backend.decode([span])) is DecodeOutcome.ABORTED
    backend.truncate(0, 0)
    assert [backend.stored_tokens(slot) for slot in (0, 1)] == [0, 6]

    subject.prefill(0, tokens[:40])
    redone = backend.logits(0).copy()
    subject.prefill(2, tokens[:40])
    np.testing.assert_allclose(redone, backend.logits(0), atol=CLOSE)


def test_backend_abort_between_decodes_stops_nothing(subject: Subject):
    subject.backend.abort()
    subject.prefill(0, subject.encode(TEXT))
    assert subject.backend.stored_tokens(0) == len(subject.encode(TEXT))


def test_backend_pieces_spell_the_text(subject: Subject):
    text = "naïve 🙂 text\n"
    pieces = map(subject.backend.piece, subject.encode(text))
    assert b"".join(pieces).decode() == text


def test_backend_end_token_has_a_name_and_no_text(subject: Subject):
    backend, end = subject.backend, subject.end_token
    assert backend.ends_generation(end)
    assert backend.piece(end) == b""
    assert backend.token_name(end).startswith(b"<")
    ordinary = subject.encode("a")[0]
    assert not backend.ends_generation(ordinary)
    assert backend.token_name(ordinary) == backend.piece(ordinary) == b"a"


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        SamplingParameters(temperature=0.0, top_p=0.1, seed=4),
        SamplingParameters(temperature=0.0, logit_bias={65: -1.0}),
        SamplingParameters(temperature=5.0, top_k=1),
        SamplingParameters(temperature=5.0, top_p=0.001),
        SamplingParameters(temperature=5.0, top_p=5e-324),
        SamplingParameters(temperature=5.0, top_p=0.0),
        SamplingParameters(temperature=5.0, min_p=1.0),
    ],
)
def test_backend_takes_the_likeliest_token_when_nothing_else_is_left(subject: Subject, sampling):
    subject.prefill(0, subject.encode(TEXT))
    likeliest = int(subject.backend.logits(0).argmax())
    assert subject.draws(sampling, 5, []) == [likeliest] * 5


def test_backend_seed_decides_the_draws(subject: Subject):
    subject.prefill(0, subject.encode(TEXT))

    def draws(seed: int | None, output: list[int]) -> list[int]:
        return subject.draws(SamplingParameters(temperature=3.0, seed=seed), 12, output)

    assert draws(1, []) == draws(1, [])
    assert draws(1, []) != draws(2, [])
    assert draws(None, []) != draws(None, [])
    assert draws(1, []) != draws(1, [65, 66, 67])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_backend_logit_bias_forces_a_token(subject: Subject, temperature):
    subject.prefill(0, subject.encode(TEXT))
    forced = subject.encode("z")[0]
    sampling = SamplingParameters(temperature=temperature, seed=1, logit_bias={forced: 100.0})
    assert subject.draws(sampling, 4, []) == [forced] * 4


@pytest.mark.parametrize(
    ("penalty", "repeats"),
    [
        ({}, True),
        ({"presence_penalty": 100.0}, False),
        ({"frequency_penalty": 100.0}, False),
        ({"repeat_penalty": 100.0}, False),
    ],
)
def test_backend_penalties_turn_away_from_what_was_said(subject: Subject, penalty, repeats):
    subject.prefill(0, subject.encode(TEXT))
    likeliest = int(subject.backend.logits(0).argmax())
    sampling = SamplingParameters(temperature=0.0, **penalty)
    assert (subject.draws(sampling, 1, [likeliest]) == [likeliest]) == repeats
    drawn = subject.draws(sampling, 2, [])
    assert drawn[0] == likeliest
    assert (drawn[1] == likeliest) == repeats


@pytest.mark.parametrize(
    ("penalty", "counts_prompt"),
    [({"presence_penalty": 100.0}, False), ({"repeat_penalty": 100.0}, True)],
)
def test_backend_only_the_repeat_penalty_counts_the_prompt(
    subject: Subject, penalty, counts_prompt
):
    subject.prefill(0, subject.encode(TEXT))
    likeliest = int(subject.backend.logits(0).argmax())
    sampler = subject.backend.new_sampler(
        SamplingParameters(temperature=0.0, **penalty), [likeliest], []
    )
    drawn = subject.backend.sample(sampler, 0)
    subject.backend.free_sampler(sampler)
    assert (drawn != likeliest) == counts_prompt


def test_backend_sampling_leaves_the_raw_logits(subject: Subject):
    subject.prefill(0, subject.encode(TEXT))
    before = subject.backend.logits(0).copy()
    subject.draws(SamplingParameters(temperature=0.7, logit_bias={65: 50.0}), 1, [])
    np.testing.assert_array_equal(subject.backend.logits(0), before)


def test_backend_under_the_engine_mixes_no_generations(subject: Subject):
    config = EngineConfig(subject.kv_cells, MAX_SEQUENCES, STEP_TOKENS, 16)
    wanted = [
        Generation(str(number), "any:1", subject.encode(text), max_tokens, GREEDY)
        for number, (text, max_tokens) in enumerate(
            [(TEXT, 8), (OTHER, 12), ("A, B, C, D, E, F,", 10), ("Monday, Tuesday,", 6)]
        )
    ]
    together = complete(Engine(subject.backend, config), *wanted)
    for item in wanted:
        subject.forget_all()  # each engine takes the backend for empty
        alone = complete(Engine(subject.backend, config), item)
        assert text_of(together[item.id]) == text_of(alone[item.id])
        assert ending(together[item.id]).reason == "length"
        assert len(tokens_of(together[item.id])) == item.max_tokens
