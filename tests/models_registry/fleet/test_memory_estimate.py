"""The estimate against what was measured, and its reaction to each number."""

from dataclasses import replace
from typing import Any

import pytest

from models_registry.fleet.memory import device_bytes, estimate_bytes
from models_registry.fleet.repacking import copied_bytes
from models_registry.gguf.reader import GGUFHeader, Matrix

AMX = ("AVX2", "AVX512", "AMX_INT8", "REPACK")
AVX512 = ("AVX2", "AVX512", "REPACK")
AVX2 = ("AVX2", "REPACK")


def _header(**facts: Any) -> GGUFHeader:
    usual: dict[str, Any] = {
        "name": None, "quantisation": "", "context_length": 8192, "chat_template": None,
        "bos_token_id": None, "eos_token_id": None, "add_bos": None, "pooling_type": None,
        "causal": True, "sliding_window": 0, "file_bytes": 0, "merge_count": 0,
    }  # fmt: skip
    matrices = facts.get("matrices", ())
    total = sum(matrix.size_bytes for matrix in matrices)
    return GGUFHeader(**(usual | {"tensor_bytes": total} | facts))


# The real models, with their weights by type, shape and use.
SMOLLM2 = _header(
    architecture="llama", embedding_length=576, block_count=30, feed_forward_length=1536,
    head_count=9, head_count_kv=(3,) * 30, key_length=64, value_length=64, vocab_size=49_152,
    merge_count=48_900,
    matrices=(
        Matrix("token_embd.weight", "Q8_0", (576, 49_152), 30_081_024),
        Matrix("ffn_up.weight", "Q4_1", (576, 1536), 66_355_200),
    ),
)  # fmt: skip
GEMMA = _header(
    architecture="gemma3", embedding_length=640, block_count=18, feed_forward_length=2048,
    head_count=4, head_count_kv=(1,) * 18, key_length=256, value_length=256, vocab_size=262_144,
    matrices=(
        Matrix("token_embd.weight", "Q8_0", (640, 262_144), 178_257_920),
        Matrix("ffn_up.weight", "Q5_0", (640, 2048), 43_591_680),
        Matrix("attn_q.weight", "Q4_K", (1024, 640), 13_271_040),
        Matrix("attn_v.weight", "Q8_0", (640, 256), 1_566_720),
        Matrix("ffn_down.weight", "Q6_K", (2048, 640), 9_676_800),
    ),
)  # fmt: skip
QWEN = _header(
    architecture="qwen2", embedding_length=896, block_count=24, feed_forward_length=4864,
    head_count=14, head_count_kv=(2,) * 24, key_length=64, value_length=64, vocab_size=151_936,
    merge_count=151_387,
    matrices=(
        Matrix("output.weight", "Q8_0", (896, 151_936), 146_105_344),
        Matrix("token_embd.weight", "Q5_0", (896, 151_936), 93_592_576),
        Matrix("ffn_up.weight", "Q5_0", (896, 4864), 173_150_208),
        Matrix("ffn_down.weight", "Q6_K", (4864, 896), 42_900_480),
        Matrix("ffn_down.weight", "Q4_K", (4864, 896), 29_417_472),
    ),
)  # fmt: skip
MINILM = _header(
    architecture="bert", context_length=512, embedding_length=384, block_count=6,
    feed_forward_length=1536, head_count=12, head_count_kv=(12,) * 6, key_length=32,
    value_length=32, vocab_size=30_522, pooling_type="mean", causal=False,
    matrices=(
        Matrix("token_embd.weight", "F16", (384, 30_522), 23_440_896),
        Matrix("position_embd.weight", "F32", (384, 512), 786_432),
        Matrix("ffn_up.weight", "F16", (384, 1536), 21_233_664),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("header", "kv_cells", "max_sequences", "cache_type", "measured_megabytes"),
    [
        (SMOLLM2, 2048, 4, "f16", 242.7),
        (SMOLLM2, 4096, 32, "f16", 297.6),
        (SMOLLM2, 16_384, 32, "f16", 583.1),
        (SMOLLM2, 16_384, 32, "q8_0", 406.3),
        (GEMMA, 4096, 8, "f16", 749.1),
        (GEMMA, 16_384, 32, "f16", 1020.1),
        (QWEN, 4096, 8, "f16", 734.4),
        (QWEN, 16_384, 32, "f16", 904.5),
        (MINILM, 512, 1, "f16", 119.8),
        (MINILM, 2048, 8, "f16", 327.4),
    ],
)
def test_estimate_is_near_what_was_measured_after_work(
    header: GGUFHeader,
    kv_cells: int,
    max_sequences: int,
    cache_type: str,
    measured_megabytes: float,
) -> None:
    estimate = estimate_bytes(
        header,
        kv_cells,
        max_sequences,
        cache_type_k=cache_type,
        cache_type_v=cache_type,
        cpu_features=AMX,
    )

    assert estimate.total_bytes == pytest.approx(measured_megabytes * 1e6, rel=0.07)


@pytest.mark.parametrize(
    ("header", "kv_cells", "max_sequences", "measured_megabytes"),
    [
        (SMOLLM2, 16_384, 32, 507.6),
        (GEMMA, 4096, 8, 413.6),
        (GEMMA, 16_384, 32, 666.1),
        (QWEN, 16_384, 32, 778.3),
        (MINILM, 2048, 8, 52.6),
    ],
)
def test_what_is_touched_late_is_not_there_after_the_load(
    header: GGUFHeader, kv_cells: int, max_sequences: int, measured_megabytes: float
) -> None:
    estimate = estimate_bytes(header, kv_cells, max_sequences, cpu_features=AVX512)

    loaded = estimate.total_bytes - estimate.late_bytes
    assert loaded == pytest.approx(measured_megabytes * 1e6, rel=0.05)


@pytest.mark.parametrize(
    ("header", "megabytes"),
    [(SMOLLM2, 99.98), (GEMMA, 224.3), (QWEN, 236.4), (MINILM, 21.23)],
)
def test_copies_are_as_large_as_the_buffer_that_llama_cpp_logs(
    header: GGUFHeader, megabytes: float
) -> None:
    assert copied_bytes(header, AMX).copies == pytest.approx(megabytes * 1e6, rel=0.001)


def test_copies_depend_on_the_cpu() -> None:
    assert copied_bytes(QWEN, ()).copies == 0
    assert copied_bytes(QWEN, AVX2).copies == 29_417_472  # Q4_K alone
    assert copied_bytes(QWEN, ("DOTPROD", "REPACK")).copies == 218_423_296  # and Q6_K, Q8_0
    assert copied_bytes(QWEN, ("AVX2",)).copies == 0  # built without


def test_weights_that_are_copied_count_once() -> None:
    plain = estimate_bytes(QWEN, 4096, 8)
    copied = estimate_bytes(QWEN, 4096, 8, cpu_features=AMX)

    assert plain.mapped_bytes == QWEN.tensor_bytes
    assert copied.mapped_bytes == QWEN.tensor_bytes - 218_423_296
    assert copied.total_bytes - plain.total_bytes < 0.1 * 218_423_296


def test_experts_are_repacked_and_not_given_to_amx() -> None:
    experts = replace(QWEN, matrices=(Matrix("ffn_up_exps.weight", "Q4_K", (512, 256, 8), 1000),))

    assert copied_bytes(experts, AMX).copies == 1000
    assert copied_bytes(experts, ("AMX_INT8",)).copies == 0


def test_kv_bytes_are_what_llama_cpp_allocates() -> None:
    # llama.cpp logs "KV buffer size = 360.00 MiB" for these numbers.
    assert estimate_bytes(SMOLLM2, 16_384, 32).kv_bytes == 360 * 2**20


def test_kv_cells_are_rounded_up_as_llama_cpp_does() -> None:
    assert estimate_bytes(SMOLLM2, 257, 1).kv_bytes == estimate_bytes(SMOLLM2, 512, 1).kv_bytes


def test_output_buffer_is_what_llama_cpp_allocates() -> None:
    # "CPU output buffer size = 64.00 MiB": 32 sequences and as many that are kept.
    assert estimate_bytes(GEMMA, 16_384, 32).output_bytes == 64 * 2**20


def test_quantised_cache_takes_less() -> None:
    whole = estimate_bytes(SMOLLM2, 4096, 8)
    quantised = estimate_bytes(SMOLLM2, 4096, 8, cache_type_k="q8_0", cache_type_v="q8_0")

    assert quantised.kv_bytes * 64 == whole.kv_bytes * 34


def test_encoder_has_no_kv_bytes() -> None:
    assert estimate_bytes(MINILM, 512, 4).kv_bytes == 0


@pytest.mark.parametrize("name", ["kv_cells", "max_sequences"])
def test_number_below_one_is_refused(name: str) -> None:
    numbers: dict[str, Any] = {"kv_cells": 512, "max_sequences": 1} | {name: 0}

    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        estimate_bytes(SMOLLM2, **numbers)


def test_gpus_take_their_shares_and_the_table_of_embeddings_stays() -> None:
    estimate = estimate_bytes(QWEN, 4096, 8)

    alone = device_bytes(QWEN, estimate, -1, {"cuda:0": 1.0})
    assert sum(alone.values()) == estimate.total_bytes
    assert alone["cpu"] > 93_592_576
    shared = device_bytes(QWEN, estimate, -1, {"cuda:0": 0.75, "cuda:1": 0.25})
    assert shared["cuda:0"] == pytest.approx(3 * shared["cuda:1"], abs=2)
    assert shared["cpu"] == alone["cpu"]


def test_layers_that_stay_on_the_cpu_count_there() -> None:
    estimate = estimate_bytes(QWEN, 4096, 8)

    some = device_bytes(QWEN, estimate, 5, {"cuda:0": 1.0})
    every = device_bytes(QWEN, estimate, 25, {"cuda:0": 1.0})
    assert some["cuda:0"] < every["cuda:0"]
    assert every == device_bytes(QWEN, estimate, -1, {"cuda:0": 1.0})
    assert device_bytes(QWEN, estimate, 0, {"cuda:0": 1.0}) == {"cpu": estimate.total_bytes}
