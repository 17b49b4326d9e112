"""Log-probabilities from raw logits."""

import math

import numpy as np
import pytest

from inference.engine.sampling import token_logprob
from tests.inference.engine.fake_backend import END_OF_GENERATION, VOCABULARY_SIZE, FakeBackend

BACKEND = FakeBackend(1)


def logits(**likely: float) -> np.ndarray:
    values = np.full(VOCABULARY_SIZE, -np.inf, dtype=np.float32)
    for letter, value in likely.items():
        values[ord(letter)] = value
    return values


def test_logprob_is_the_log_of_the_softmax():
    entry = token_logprob(BACKEND, logits(a=math.log(6), b=math.log(3), c=0.0), ord("b"), 2)
    assert (entry.token, entry.token_bytes) == ("b", b"b")
    assert math.exp(entry.logprob) == pytest.approx(0.3)
    assert [(name, data) for name, data, _ in entry.top] == [("a", b"a"), ("b", b"b")]
    assert [math.exp(value) for _, _, value in entry.top] == pytest.approx([0.6, 0.3])


@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_logprob_does_not_overflow_on_large_logits(offset):
    entry = token_logprob(BACKEND, logits(a=offset, b=offset), ord("a"), 0)
    assert entry.logprob == pytest.approx(math.log(0.5))
    assert entry.top == []


def test_logprob_spells_control_tokens_and_broken_characters():
    values = np.zeros(VOCABULARY_SIZE, dtype=np.float32)
    assert token_logprob(BACKEND, values, END_OF_GENERATION, 0).token == "<end>"
    broken = token_logprob(BACKEND, values, 0xFF, 0)
    assert (broken.token, broken.token_bytes) == ("\ufffd", b"\xff")


def test_logprob_can_list_the_whole_vocabulary():
    values = np.arange(VOCABULARY_SIZE, dtype=np.float32)
    entry = token_logprob(BACKEND, values, 0, VOCABULARY_SIZE)
    assert sum(math.exp(value) for _, _, value in entry.top) == pytest.approx(1.0)
    assert [value for _, _, value in entry.top] == sorted(
        (value for _, _, value in entry.top), reverse=True
    )
