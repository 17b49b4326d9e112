"""The header of a sound GGUF file."""

from pathlib import Path

import pytest

from models_registry.gguf.reader import GGUFError, GGUFHeader, Matrix, read_header
from tests.models_registry.gguf_samples import (
    BARE,
    BASE,
    HEADS,
    TEMPLATE,
    TOKENIZER,
    TOKENS,
    container,
    key_value,
    text,
    u32,
    write_llama,
)


def _header(path: Path, data: bytes) -> GGUFHeader:
    path.write_bytes(data)
    return read_header(path)


def test_header_of_a_language_model(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tiny.gguf")

    header = read_header(path)

    assert header == GGUFHeader(
        architecture="llama",
        name="Tiny",
        quantisation="Q8_0",
        context_length=64,
        embedding_length=32,
        block_count=2,
        feed_forward_length=48,
        head_count=4,
        head_count_kv=(2, 2),
        key_length=8,
        value_length=8,
        vocab_size=len(TOKENS),
        merge_count=1,
        chat_template=TEMPLATE,
        bos_token_id=0,
        eos_token_id=1,
        add_bos=True,
        pooling_type=None,
        causal=True,
        sliding_window=0,
        tensor_bytes=(6 * 32 + 32) * 4,
        file_bytes=path.stat().st_size,
        matrices=(Matrix("token_embd.weight", "F32", (32, len(TOKENS)), 6 * 32 * 4),),
    )


def test_kv_bytes_follow_heads_lengths_and_cache_type(tmp_path: Path) -> None:
    header = read_header(write_llama(tmp_path / "tiny.gguf"))

    assert header.kv_bytes_per_token() == 2 * 2 * (8 + 8) * 2
    assert header.kv_bytes_per_token("f32", "f32") == 2 * 2 * (8 + 8) * 4
    assert (
        header.kv_bytes_per_token("q8_0", "q8_0") == 68
    )  # 64 elements in blocks of 32 at 34 bytes
    with pytest.raises(ValueError, match="'q99' is not a ggml type"):
        header.kv_bytes_per_token("q99")


def test_kv_heads_may_vary_by_block(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tiny.gguf", **{"llama.attention.head_count_kv": [1, 4]})

    header = read_header(path)

    assert header.head_count_kv == (1, 4)
    assert header.kv_bytes_per_token() == (1 + 4) * (8 + 8) * 2


def test_encoder_keeps_no_kv_cache(tmp_path: Path) -> None:
    header = _header(
        tmp_path / "encoder.gguf",
        container(
            key_value("general.architecture", 8, text("llama")),
            *BASE[1:],
            u32("llama.pooling_type", 1),
            key_value("llama.attention.causal", 7, b"\0"),
        ),
    )

    assert header.pooling_type == "mean"
    assert header.kv_bytes_per_token() == 0


def test_what_the_file_does_not_say_is_empty(tmp_path: Path) -> None:
    header = _header(tmp_path / "bare.gguf", container(*BASE))

    assert (header.name, header.chat_template, header.bos_token_id) == (None, None, None)
    assert (header.add_bos, header.pooling_type) == (None, None)
    assert (header.merge_count, header.sliding_window) == (0, 0)
    assert header.quantisation == "unknown"


def test_token_id_beyond_the_vocabulary_is_ignored(tmp_path: Path) -> None:
    header = _header(
        tmp_path / "odd.gguf", container(*BASE, u32("tokenizer.ggml.bos_token_id", 2**32 - 1))
    )

    assert header.bos_token_id is None


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"nothing\.gguf cannot be read: No such file"):
        read_header(tmp_path / "nothing.gguf")


def test_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(GGUFError):
        read_header(tmp_path)


@pytest.mark.parametrize("key", ["mamba.ssm.state_size", "mamba.wkv.head_size"])
def test_recurrent_model_needs_no_heads(tmp_path: Path, key: str) -> None:
    names = ("context_length", "embedding_length", "block_count")
    header = _header(
        tmp_path / "mamba.gguf",
        container(
            key_value("general.architecture", 8, text("mamba")),
            *(u32(f"mamba.{name}", 8) for name in names),
            *TOKENIZER,
            u32("mamba.attention.head_count", 0),
            u32(key, 16),
        ),
    )
    assert header.head_count == 0


UNUSABLE = {
    "architecture": (
        [key_value("general.architecture", 8, text("future"))]
        + [u32(f"future.{name}", 8) for name in ("context_length", "embedding_length")]
        + [u32("future.block_count", 2), *TOKENIZER, u32("future.attention.head_count", 4)],
        "'future' is unknown to this release's llama.cpp",
    ),
    "no tokeniser": ([*BARE, HEADS], "has no tokeniser"),
    "empty tokeniser": (
        [*BARE, HEADS, key_value("tokenizer.ggml.model", 8, text("no_vocab")), TOKENIZER[1]],
        "has no tokeniser",
    ),
    "no tokens": ([*BARE, HEADS, TOKENIZER[0]], "vocabulary .* is empty"),
    "no heads": ([*BARE, *TOKENIZER], r"no attention heads \(llama.attention.head_count\)"),
    "zero heads": ([*BARE, *TOKENIZER, u32("llama.attention.head_count", 0)], "no attention heads"),
}


@pytest.mark.parametrize(("key_values", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_model_that_can_never_serve_is_refused(
    tmp_path: Path, key_values: list[bytes], reason: str
) -> None:
    with pytest.raises(GGUFError, match=reason):
        _header(tmp_path / "m.gguf", container(*key_values))
