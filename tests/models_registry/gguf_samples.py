"""Small GGUF files for tests: a valid one, and the pieces to damage it with."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np

TOKENS = ["<s>", "</s>", "a", "b", "ab", "é"]
CONTEXT_LENGTH = 64
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_llama(path: Path, **overrides: Any) -> Path:
    """A tiny file of architecture llama; `overrides` are key-values: an int or a list of ints."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    if "llama.attention.head_count_kv" not in overrides:
        writer.add_head_count_kv(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([1] * len(TOKENS))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)
    for key, value in overrides.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_uint32(key, value)
    writer.add_tensor("token_embd.weight", np.ones((6, 32), dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key_value(key: str | bytes, value_type: int, payload: bytes) -> bytes:
    """A GGUF key-value."""
    return text(key) + struct.pack("<I", value_type) + payload


def u32(key: str, value: int) -> bytes:
    """A key-value of type uint32."""
    return key_value(key, 4, struct.pack("<I", value))


def tensor(name: str, dimensions: list[int], tensor_type: int, offset: int) -> bytes:
    """An entry of the tensor table."""
    return (
        text(name)
        + struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
        + struct.pack("<IQ", tensor_type, offset)
    )


def texts(key: str, *values: str) -> bytes:
    """A key-value that is a list of texts."""
    return key_value(key, 9, struct.pack("<IQ", 8, len(values)) + b"".join(map(text, values)))


BARE = [
    key_value("general.architecture", 8, text("llama")),
    u32("llama.context_length", 64),
    u32("llama.embedding_length", 32),
    u32("llama.block_count", 2),
]
TOKENIZER = [
    key_value("tokenizer.ggml.model", 8, text("gpt2")),
    texts("tokenizer.ggml.tokens", *TOKENS),
]
HEADS = u32("llama.attention.head_count", 4)
BASE = [*BARE, *TOKENIZER, HEADS]


def container(
    *key_values: bytes,
    tensors: tuple[bytes, ...] = (),
    data: bytes = b"",
    version: int = 3,
    tensor_count: int | None = None,
    key_value_count: int | None = None,
) -> bytes:
    """A whole file from its parts, with counts that may lie."""
    counts = (
        len(tensors) if tensor_count is None else tensor_count,
        len(key_values) if key_value_count is None else key_value_count,
    )
    head = (
        b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(key_values) + b"".join(tensors)
    )
    return head + bytes(-len(head) % 32) + data
