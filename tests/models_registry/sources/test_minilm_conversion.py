"""From a safetensors archive to GGUF, with a BERT of two layers and nine tokens."""

import json
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy

from models_registry.gguf.reader import read_header
from models_registry.sources.errors import (
    ConversionError,
)
from models_registry.sources.readers.minilm import convert

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "#", "##s"]
CONFIG = {
    "architectures": ["BertModel"],
    "max_position_embeddings": 16,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
}
LAYER_SHAPES = {
    "attention.self.query": (8, 8),
    "attention.self.key": (8, 8),
    "attention.self.value": (8, 8),
    "attention.output.dense": (8, 8),
    "attention.output.LayerNorm": (8,),
    "intermediate.dense": (12, 8),
    "output.dense": (8, 12),
    "output.LayerNorm": (8,),
}


def _weights() -> dict[str, Any]:
    chance = np.random.default_rng(3)
    shapes = {
        "embeddings.word_embeddings.weight": (9, 8),
        "embeddings.position_embeddings.weight": (16, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
        "embeddings.LayerNorm.weight": (8,),
        "embeddings.LayerNorm.bias": (8,),
        "pooler.dense.weight": (8, 8),
        "pooler.dense.bias": (8,),
    }
    for layer in range(2):
        for part, shape in LAYER_SHAPES.items():
            shapes[f"encoder.layer.{layer}.{part}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{part}.bias"] = shape[:1]
    weights = {name: chance.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    return weights | {"embeddings.position_ids": np.arange(16).reshape(1, 16)}


def _archive(path: Path, **replaced: bytes | None) -> Path:
    vocabulary = {token: number for number, token in enumerate(TOKENS)}
    members: dict[str, bytes | None] = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": json.dumps({"model": {"vocab": vocabulary}}).encode(),
        "model.safetensors": safetensors.numpy.save(_weights()),
    } | replaced
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_converted_model_has_the_facts_of_its_configuration(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"

    convert(_archive(tmp_path / "model.zip"), target)

    header = read_header(target)
    assert (header.architecture, header.quantisation) == ("bert", "F16")
    assert (header.context_length, header.embedding_length, header.block_count) == (16, 8, 2)
    assert (header.head_count, header.vocab_size, header.pooling_type) == (2, 9, "mean")
    assert (header.bos_token_id, header.causal) == (2, False)


def test_tensors_keep_their_values_and_lose_the_pooler(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    convert(_archive(tmp_path / "model.zip"), target)
    weights = _weights()

    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}

    assert len(tensors) == 5 + 2 * 2 * len(LAYER_SHAPES)
    assert tensors["token_embd.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert tensors["position_embd.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert tensors["blk.1.attn_q.bias"].tensor_type == gguf.GGMLQuantizationType.F32
    np.testing.assert_array_equal(
        tensors["blk.1.ffn_up.weight"].data,
        weights["encoder.layer.1.intermediate.dense.weight"].astype(np.float16),
    )
    np.testing.assert_array_equal(
        tensors["token_embd_norm.bias"].data, weights["embeddings.LayerNorm.bias"]
    )


def test_tokens_are_spelt_as_llama_cpp_wants_them(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    convert(_archive(tmp_path / "model.zip"), target)

    field = gguf.GGUFReader(target).get_field("tokenizer.ggml.tokens")

    assert field is not None
    assert field.contents() == [*TOKENS[:5], "▁play", "ing", "▁#", "s"]


def test_same_archive_gives_the_same_bytes(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "model.zip")
    for name in ("a.gguf", "b.gguf"):
        convert(archive, tmp_path / name)

    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize(
    ("replaced", "reason"),
    [
        ({"model.safetensors": None}, "model.safetensors"),
        ({"config.json": b"{"}, "not a usable MiniLM archive"),
        ({"config.json": b"[]"}, "not a usable MiniLM archive"),
        ({"config.json": b'{"architectures": ["GPT2"]}'}, "only BertModel"),
        ({"tokenizer.json": b'{"model": {"vocab": {"a": 5}}}'}, "ids have a gap"),
        ({"model.safetensors": b"junk" * 9}, "not a usable MiniLM archive"),
        (
            {"model.safetensors": safetensors.numpy.save({"classifier.weight": np.ones((2, 2))})},
            "not a usable MiniLM archive",
        ),
    ],
)
def test_other_archive_is_refused(
    tmp_path: Path, replaced: dict[str, bytes | None], reason: str
) -> None:
    with pytest.raises(ConversionError, match=reason):
        convert(_archive(tmp_path / "model.zip", **replaced), tmp_path / "m.gguf")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(b"no zip")

    with pytest.raises(ConversionError, match="not a usable MiniLM archive"):
        convert(path, tmp_path / "m.gguf")
