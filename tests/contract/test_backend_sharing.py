"""Sequences that share cells: the same logits as computed ones, and nothing copied."""

import numpy as np
import pytest

from inference.engine.backend import DecodeOutcome, Span
from tests.contract.subjects import GREEDY, Subject
from tests.contract.test_backend_contract import CLOSE, OTHER, TEXT

ALL_OUTPUTS = 4


def last_logits(subject: Subject, slot: int, tokens: list[int], start: int = 0):
    """Raw logits after the last of some tokens."""
    subject.prefill(slot, tokens, start)
    return subject.backend.logits(0).copy()


def test_backend_shared_cells_give_the_logits_of_computed_ones(subject: Subject):
    tokens = subject.encode(TEXT)
    wanted = last_logits(subject, 0, tokens)
    subject.backend.share(0, 1, 0, len(tokens) - 2)
    assert subject.backend.stored_tokens(1) == len(tokens) - 2
    shared = last_logits(subject, 1, tokens[-2:], len(tokens) - 2)
    np.testing.assert_allclose(shared, wanted, atol=CLOSE)


def test_backend_sequences_that_share_go_on_by_themselves(subject: Subject):
    """Each its own way, in one batch."""
    backend = subject.backend
    begin, first, second = (subject.encode(text) for text in (OTHER, " six,", " 6, 7"))
    wanted = []
    for tokens in ([*begin, *first], [*begin, *second]):
        wanted.append(last_logits(subject, 5, tokens))
        backend.truncate(5, 0)
    subject.prefill(0, begin)
    backend.share(0, 1, 0, len(begin))
    spans = [Span(0, len(begin), first, 1), Span(1, len(begin), second, 1)]
    assert backend.decode(spans) is DecodeOutcome.DONE
    for index in (0, 1):
        np.testing.assert_allclose(backend.logits(index), wanted[index], atol=CLOSE)


@pytest.mark.parametrize("kept", [0, 3])
def test_backend_shared_cells_outlive_what_they_came_from(subject: Subject, kept: int):
    backend, tokens = subject.backend, subject.encode(TEXT)
    wanted = last_logits(subject, 0, tokens)
    backend.share(0, 1, 0, len(tokens) - 1)
    backend.truncate(0, kept)
    assert [backend.stored_tokens(slot) for slot in (0, 1)] == [kept, len(tokens) - 1]
    subject.prefill(0, subject.encode(OTHER), kept)
    shared = last_logits(subject, 1, tokens[-1:], len(tokens) - 1)
    np.testing.assert_allclose(shared, wanted, atol=CLOSE)


def test_backend_share_takes_the_place_of_what_the_target_had(subject: Subject):
    """Two sequences computed the same: one releases its cells, and nothing changes."""
    backend, tokens = subject.backend, subject.encode(OTHER)
    wanted = last_logits(subject, 0, tokens)
    backend.truncate(0, 0)
    for slot in (0, 1):
        subject.prefill(slot, tokens[:-1])
    backend.share(0, 1, 1, 4)
    assert backend.stored_tokens(1) == len(tokens) - 1
    shared = last_logits(subject, 1, tokens[-1:], len(tokens) - 1)
    np.testing.assert_allclose(shared, wanted, atol=CLOSE)


def test_backend_share_puts_the_sources_tokens_in_place_of_others(subject: Subject):
    backend, tokens = subject.backend, subject.encode(TEXT)
    wanted = last_logits(subject, 0, tokens)
    subject.prefill(1, subject.encode(OTHER)[: len(tokens)])
    backend.share(0, 1, 0, len(tokens) - 1)
    backend.truncate(1, len(tokens) - 1)
    shared = last_logits(subject, 1, tokens[-1:], len(tokens) - 1)
    np.testing.assert_allclose(shared, wanted, atol=CLOSE)


def test_backend_sharing_takes_no_cells(small_subject: Subject):
    """Two long sequences fit only if what they share is there once."""
    subject, backend = small_subject, small_subject.backend
    tokens = (subject.encode(OTHER) * 99)[: subject.kv_cells]
    half = subject.kv_cells // 2
    subject.prefill(0, tokens[: half + 20])
    backend.share(0, 1, 0, half)
    subject.prefill(1, tokens[half:-21], half)
    assert backend.decode([Span(0, half + 20, tokens[:1], 1)]) is DecodeOutcome.DONE
    one_more = Span(1, subject.kv_cells - 21, tokens[:1], 1)
    assert backend.decode([one_more]) is DecodeOutcome.NO_CELLS
    backend.truncate(0, half)
    assert backend.decode([one_more]) is DecodeOutcome.DONE


def test_backend_a_copy_given_up_is_free_again(small_subject: Subject):
    subject, backend = small_subject, small_subject.backend
    tokens = (subject.encode(OTHER) * 99)[: subject.kv_cells // 2]
    subject.prefill(0, tokens)
    subject.prefill(1, tokens)
    more = Span(1, len(tokens), tokens[:10], 1)
    assert backend.decode([more]) is DecodeOutcome.NO_CELLS
    backend.share(0, 1, 0, len(tokens))
    assert backend.decode([more]) is DecodeOutcome.DONE


def test_backend_gives_logits_of_several_tokens_of_a_span(subject: Subject):
    backend, tokens = subject.backend, subject.encode(OTHER)
    wanted = []
    for end in range(len(tokens) - ALL_OUTPUTS + 1, len(tokens) + 1):
        wanted.append(last_logits(subject, 5, tokens[:end]))
        backend.truncate(5, 0)
    other = last_logits(subject, 5, subject.encode(TEXT))
    backend.truncate(5, 0)
    spans = [
        Span(0, 0, subject.encode(TEXT), 1),
        Span(1, 0, tokens[:3], 0),
        Span(2, 0, tokens, ALL_OUTPUTS),
    ]
    assert backend.decode(spans) is DecodeOutcome.DONE
    np.testing.assert_allclose(backend.logits(0), other, atol=CLOSE)
    for output, logits in enumerate(wanted):
        np.testing.assert_allclose(backend.logits(2, output), logits, atol=CLOSE)
        sampled = subject.backend.new_sampler(GREEDY, [], [])
        assert backend.sample(sampled, 2, output) == int(logits.argmax())
        backend.free_sampler(sampled)
