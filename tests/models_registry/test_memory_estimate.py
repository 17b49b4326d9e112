"""The estimate against what was measured, and its reaction to each number."""

from typing import Any

import pytest

from models_registry.gguf import GGUFHeader
from models_registry.memory import estimate_bytes

SMOLLM2 = GGUFHeader(
    architecture="llama",
    name="SmolLM2",
    quantisation="Q4_1",
    context_length=8192,
    embedding_length=576,
    block_count=30,
    feed_forward_length=1536,
    head_count=9,
    head_count_kv=(3,) * 30,
    key_length=64,
    value_length=64,
    vocab_size=49_152,
    merge_count=48_900,
    chat_template=None,
    bos_token_id=1,
    eos_token_id=2,
    add_bos=False,
    pooling_type=None,
    causal=True,
    sliding_window=0,
    tensor_bytes=96_576_768,
    file_bytes=98_362_432,
)
MINILM = GGUFHeader(
    architecture="bert",
    name="MiniLM",
    quantisation="F16",
    context_length=512,
    embedding_length=384,
    block_count=6,
    feed_forward_length=1536,
    head_count=12,
    head_count_kv=(12,) * 6,
    key_length=32,
    value_length=32,
    vocab_size=30_522,
    merge_count=0,
    chat_template=None,
    bos_token_id=101,
    eos_token_id=None,
    add_bos=None,
    pooling_type="mean",
    causal=False,
    sliding_window=0,
    tensor_bytes=45_586_944,
    file_bytes=46_223_328,
)


@pytest.mark.parametrize(
    ("header", "kv_cells", "max_sequences", "step_tokens", "measured_megabytes"),
    [
        (SMOLLM2, 4096, 32, 512, 238.0),
        (SMOLLM2, 4096, 32, 128, 226.7),
        (SMOLLM2, 16_384, 32, 512, 523.6),
        (SMOLLM2, 65_536, 32, 128, 1648.6),
        (MINILM, 512, 1, 512, 124.9),
        (MINILM, 1024, 4, 1024, 196.3),
        (MINILM, 2048, 8, 2048, 342.2),
    ],
)
def test_estimate_is_near_the_measured_resident_set(
    header: GGUFHeader,
    kv_cells: int,
    max_sequences: int,
    step_tokens: int,
    measured_megabytes: float,
) -> None:
    estimate = estimate_bytes(header, kv_cells, max_sequences, step_tokens=step_tokens)

    assert estimate.total_bytes == pytest.approx(measured_megabytes * 1e6, rel=0.07)


@pytest.mark.parametrize(
    ("cache_type_k", "cache_type_v", "measured_megabytes"),
    [
        ("f16", "f16", 518.4),
        ("q8_0", "f16", 429.9),
        ("f16", "q4_0", 382.9),
        ("q8_0", "q8_0", 341.5),
        ("q4_0", "q4_0", 247.2),
    ],
)
def test_estimate_knows_what_keys_and_values_are_kept_in(
    cache_type_k: str, cache_type_v: str, measured_megabytes: float
) -> None:
    estimate = estimate_bytes(
        SMOLLM2, 16_384, 32, cache_type_k=cache_type_k, cache_type_v=cache_type_v
    )

    assert estimate.total_bytes == pytest.approx(measured_megabytes * 1e6, rel=0.06)


def test_kv_bytes_are_what_llama_cpp_allocates() -> None:
    # llama.cpp logs "KV buffer size = 360.00 MiB" for these numbers.
    assert estimate_bytes(SMOLLM2, 16_384, 32).kv_bytes == 360 * 2**20


def test_kv_cells_are_rounded_up_as_llama_cpp_does() -> None:
    assert estimate_bytes(SMOLLM2, 257, 1).kv_bytes == estimate_bytes(SMOLLM2, 512, 1).kv_bytes


def test_quantised_cache_takes_less() -> None:
    whole = estimate_bytes(SMOLLM2, 4096, 8)
    quantised = estimate_bytes(SMOLLM2, 4096, 8, cache_type_k="q8_0", cache_type_v="q8_0")

    assert quantised.kv_bytes * 64 == whole.kv_bytes * 34


def test_encoder_has_no_kv_bytes() -> None:
    assert estimate_bytes(MINILM, 512, 4).kv_bytes == 0


@pytest.mark.parametrize("name", ["kv_cells", "max_sequences", "step_tokens"])
def test_number_below_one_is_refused(name: str) -> None:
    numbers: dict[str, Any] = {"kv_cells": 512, "max_sequences": 1, "step_tokens": 64} | {name: 0}

    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        estimate_bytes(SMOLLM2, **numbers)
