"""The backends under contract; the real model is loaded once."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from inference.engine.config import EngineConfig
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.prompts.vocabulary import Vocabulary
from tests.contract.subjects import (
    KEPT_SEQUENCES,
    MAX_SEQUENCES,
    STEP_TOKENS,
    Subject,
    fake_subject,
    llama_subject,
)

KV_CELLS = 4096
SMALL_KV_CELLS = 256
THREADS = min(2, os.cpu_count() or 1)


def _loaded(path: Path, kv_cells: int) -> Iterator[Subject]:
    config = EngineConfig(
        kv_cells, MAX_SEQUENCES, step_tokens=STEP_TOKENS, kept_sequences=KEPT_SEQUENCES
    )
    backend = LlamaBackend(path, config, LlamaOptions(threads=THREADS))
    yield llama_subject(backend, kv_cells, Vocabulary(path))
    backend.close()


@pytest.fixture(scope="session")
def loaded_llama(smollm2_path: Path) -> Iterator[Subject]:
    yield from _loaded(smollm2_path, KV_CELLS)


@pytest.fixture(scope="session")
def loaded_small_llama(smollm2_path: Path) -> Iterator[Subject]:
    yield from _loaded(smollm2_path, SMALL_KV_CELLS)


@pytest.fixture
def llama(loaded_llama: Subject) -> Generator[Subject, None, None]:
    """SmolLM2 with empty slots."""
    yield loaded_llama
    loaded_llama.forget_all()


@pytest.fixture(params=["fake", "llama"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each backend in turn, with empty slots."""
    if request.param == "fake":
        return fake_subject(KV_CELLS)
    llama_with_empty_slots: Subject = request.getfixturevalue("llama")
    return llama_with_empty_slots


@pytest.fixture(params=["fake", "llama"])
def small_subject(request: pytest.FixtureRequest) -> Generator[Subject, None, None]:
    """Each backend in turn, with so few cells that they run out."""
    if request.param == "fake":
        yield fake_subject(SMALL_KV_CELLS)
        return
    small: Subject = request.getfixturevalue("loaded_small_llama")
    yield small
    small.forget_all()
