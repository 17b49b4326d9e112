"""llama.cpp's flash attention on a CPU, patched, against its attention by matrix products."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference.engine.backend import DecodeOutcome, Span
from inference.engine.llama_backend import LlamaBackend
from inference.engine.llama_runtime import LlamaOptions

# 1 - correlation of logits. Rounding in F16, and of activations after it, makes up to 0.005; one
# token more or less at the beginning of 40 makes 0.02.
TOLERANCE = 0.008
OTHERS = 7


def _load(path: Path, options: LlamaOptions) -> LlamaBackend:
    return LlamaBackend(
        path,
        kv_cells=4096,
        max_sequences=OTHERS + 2,
        step_tokens=512,
        threads=2,
        options=options,
    )


@pytest.fixture(scope="module")
def flash(smollm2_path: Path) -> Iterator[LlamaBackend]:
    backend = _load(smollm2_path, LlamaOptions(flash_attention="on"))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def products(smollm2_path: Path) -> Iterator[LlamaBackend]:
    backend = _load(smollm2_path, LlamaOptions(flash_attention="off"))
    yield backend
    backend.close()


def _tokens(count: int, seed: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).integers(100, 40_000, count)]


def _logits(backend: LlamaBackend, steps: list[list[Span]]) -> np.ndarray:
    """Of every output of the last step, in rows."""
    for sequence_id in range(OTHERS + 2):
        backend.truncate(sequence_id, 0)
    for spans in steps:
        assert backend.decode(spans) is DecodeOutcome.DONE
    last = range(len(steps[-1]))
    return np.stack([backend.logits(span, 0).copy() for span in last])


def _difference(first: np.ndarray, second: np.ndarray) -> float:
    """The largest of all rows."""
    return max(1 - np.corrcoef(*rows)[0, 1] for rows in zip(first, second, strict=True))


def _others(tokens: int) -> list[list[Span]]:
    """Sequences with contexts of their own."""
    return [[Span(each, 0, _tokens(tokens, each), 1)] for each in range(OTHERS)]


@pytest.mark.parametrize("rows", [1, 3, 15, 16, 40, 63, 64, 65, 130])
@pytest.mark.parametrize("before", [0, 1, 31, 300])
def test_attention_of_a_prompt_sees_its_own_cells_alone(flash, products, rows, before):
    prompt = _tokens(before + rows, seed=99)
    steps = _others(50)
    if before:
        steps.append([Span(OTHERS, 0, prompt[:before], 1)])
    steps.append([Span(OTHERS, before, prompt[before:], 1)])
    alone = [[Span(OTHERS, 0, prompt, 1)]]
    expected = _logits(products, alone)
    assert _difference(_logits(flash, steps), expected) < TOLERANCE
    assert _difference(_logits(flash, alone), expected) < TOLERANCE


@pytest.mark.parametrize("context", [1, 33, 200])
@pytest.mark.parametrize("rows", [1, 40, 100])
def test_attention_of_answers_beside_a_prompt_sees_each_its_own_cells(
    flash, products, context, rows
):
    answers = [Span(each, context, [7], 1) for each in range(OTHERS)]
    steps = [*_others(context), [*answers, Span(OTHERS, 0, _tokens(rows, seed=99), 1)]]
    assert _difference(_logits(flash, steps), _logits(products, steps)) < TOLERANCE


def test_attention_with_a_cell_of_another_would_be_seen(products):
    prompt = _tokens(40, seed=99)
    right = _logits(products, [[Span(0, 0, prompt, 1)]])
    wrong = _logits(products, [[Span(0, 0, [7, *prompt], 1)]])
    assert _difference(right, wrong) > TOLERANCE
