"""Headers made by chance: they are read or refused with a ``GGUFError``, fast, and never believed
beyond the file."""

import struct
import tempfile
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models_registry.gguf.reader import GGUFError, GGUFHeader, read_header
from models_registry.rules.capabilities import capabilities_of, knows_fim
from tests.models_registry.gguf_samples import (
    BARE,
    BASE,
    TEMPLATE,
    container,
    key_value,
    tensor,
    text,
    u32,
    write_llama,
)

PROCESSOR_SECONDS = 1.0
MEMORY_BYTES = 16 * 1024 * 1024
EDGES = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63,
         2**64 - 1]  # fmt: skip

with tempfile.TemporaryDirectory() as folder:
    WHOLE = write_llama(Path(folder) / "tiny.gguf").read_bytes()
HEADER_BYTES = len(WHOLE) - (6 * 32 + 32) * 4

offsets = st.integers(0, HEADER_BYTES - 1)
byte_flips = st.tuples(offsets, st.binary(min_size=1, max_size=1))
# Counts, lengths, types and offsets are what a header can lie with: numbers at the edges of
# their types, written over any place.
number_writes = st.tuples(
    offsets,
    st.tuples(st.sampled_from(["<I", "<Q"]), st.sampled_from(EDGES)).map(
        lambda pair: struct.pack(pair[0], pair[1] & (2**32 - 1 if pair[0] == "<I" else 2**64 - 1))
    ),
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (container(*BASE, key_value("general.name", 8, text("a\0b"))), "general.name has a NUL"),
        (
            container(*BASE, key_value("tokenizer.chat_template", 8, text("a\0b"))),
            "chat_template has a NUL",
        ),
        (
            container(*BASE, tensors=(tensor("a\0b", [32], 0, 0),), data=bytes(128)),
            "has a NUL character",
        ),
        (
            container(
                key_value("general.architecture", 8, text("x" * 51)),
                u32("x" * 51 + ".context_length", 64),
                u32("x" * 51 + ".embedding_length", 32),
                u32("x" * 51 + ".block_count", 2),
            ),
            "has 51 characters, more than 50",
        ),
        (
            container(
                *BARE,
                u32("llama.attention.head_count", 1),
                u32("llama.attention.key_length", 2**31 - 1),
                u32("llama.attention.value_length", 2**31 - 1),
            ),
            "KV cache would take",
        ),
    ],
    ids=["name", "template", "tensor", "architecture", "cache"],
)
def test_header_that_no_row_can_hold_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(GGUFError, match=reason):
        read_header(path)


def read(data: bytes) -> GGUFHeader | None:
    """The header of a file with these bytes; None when it is refused. Both are cheap."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        started = time.process_time()
        try:
            return read_header(Path(file.name))
        except GGUFError:
            return None
        finally:
            assert time.process_time() - started < PROCESSOR_SECONDS


def test_sample_itself_is_read() -> None:
    assert read(WHOLE) is not None


@settings(max_examples=500)
@given(st.lists(st.one_of(byte_flips, number_writes), min_size=1, max_size=4))
def test_overwritten_headers_are_read_or_refused(writes: list[tuple[int, bytes]]) -> None:
    data = bytearray(WHOLE)
    for offset, new in writes:
        data[offset : offset + len(new)] = new
    header = read(bytes(data))
    if header is not None:
        assert header.tensor_bytes <= len(data)
        assert header.kv_bytes_per_token() >= 0


@settings(max_examples=200)
@given(st.integers(0, HEADER_BYTES), st.integers(0, HEADER_BYTES), st.integers(0, HEADER_BYTES))
def test_headers_with_pieces_moved_are_read_or_refused(start: int, end: int, to: int) -> None:
    first, last = sorted((start, end))
    read(WHOLE[:to] + WHOLE[first:last] + WHOLE[to:])
    read(WHOLE[:first] + WHOLE[last:])


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_noise_after_a_sound_beginning_is_read_or_refused(noise: bytes) -> None:
    read(WHOLE[:24] + noise)
    read(container(*BASE)[:-32] + noise)


@pytest.mark.parametrize("count", EDGES[2:])
@pytest.mark.parametrize("element_type", range(13))
def test_lists_longer_than_the_file_are_refused_without_memory(
    element_type: int, count: int
) -> None:
    data = container(*BASE, key_value("x", 9, struct.pack("<IQ", element_type, count)))
    tracemalloc.start()
    try:
        assert read(data) is None
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [1, 2, 1000])
def test_lists_of_lists_are_refused(depth: int) -> None:
    nested = struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 1) + bytes(1)
    assert read(container(*BASE, key_value("x", 9, nested))) is None


@pytest.mark.parametrize(
    "tensors",
    {
        "overlapping": (tensor("a", [16], 0, 0), tensor("b", [16], 0, 32)),
        "the same place": (tensor("a", [8], 0, 0), tensor("b", [8], 0, 0)),
        "a gap": (tensor("a", [8], 0, 0), tensor("b", [8], 0, 64)),
        "backwards": (tensor("a", [8], 0, 32), tensor("b", [8], 0, 0)),
        "not aligned": (tensor("a", [8], 0, 0), tensor("b", [8], 0, 33)),
        "beyond the end": (tensor("a", [2**40], 0, 0),),
        "negative": (tensor("a", [2**64 - 8], 0, 0),),
        "overflowing to nothing": (tensor("a", [2**32, 2**32], 0, 0),),
        "overflowing in bytes": (tensor("a", [2**62], 0, 0),),
    }.values(),
    ids=str,
)
def test_tensors_out_of_place_are_refused(tensors: tuple[bytes, ...]) -> None:
    assert read(container(*BASE, tensors=tensors, data=bytes(256))) is None


def _with_tokens(tmp_path: Path, tokens: list[str]) -> GGUFHeader:
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_tensor("t", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_header(tmp_path / "t.gguf")


@pytest.mark.parametrize(
    ("tokens", "knows"),
    [
        (["a", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], True),
        (["<fim_middle>", "<fim_suffix>", "<fim_prefix>", "b"], True),
        (["a", "<|fim_prefix|>", "<|fim_suffix|>"], False),
        (["<|fim_prefix|>", "<fim_suffix>", "<MID>"], False),
        (["a", "b"], False),
    ],
)
def test_vocabulary_with_marks_of_a_hole_can_fill_in(
    tmp_path: Path, tokens: list[str], knows: bool
) -> None:
    header = _with_tokens(tmp_path, tokens)
    assert (header.knows_fim, header.vocab_size) == (knows, len(tokens))


def test_marks_of_a_hole_count_in_the_vocabulary_alone(tmp_path: Path) -> None:
    marks = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    listed = struct.pack("<IQ", 8, 3) + b"".join(text(mark) for mark in marks)
    header = read(container(*BASE, key_value("tokenizer.ggml.merges", 9, listed)))
    assert header is not None
    assert not header.knows_fim


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"is_embedding": True, "chat_template": TEMPLATE, "knows_fim": True}, ["embedding"]),
        ({}, ["completion"]),
        ({"chat_template": TEMPLATE}, ["chat", "completion"]),
        ({"chat_template": "{% if tools %}x{% endif %}"}, ["chat", "completion", "tools"]),
        ({"chat_template": "{{ toolset }}", "knows_fim": True}, ["chat", "completion", "fim"]),
    ],
)
def test_capabilities_follow_the_file(facts: dict[str, object], expected: list[str]) -> None:
    defaults = {"is_embedding": False, "chat_template": "", "knows_fim": False}
    assert capabilities_of(**(defaults | facts)) == expected


def test_no_marks_are_no_hole() -> None:
    assert not knows_fim(frozenset())
