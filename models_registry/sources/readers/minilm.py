"""Convert all-MiniLM-L6-v2 from its published safetensors archive to GGUF.

As llama.cpp's `convert_hf_to_gguf.py` does for `BertModel`; the pooler head, which
sentence-transformers does not use, is left out.
"""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from models_registry.sources.errors import ConversionError

# A bound against zip bombs; the largest member of the real archive has 90.9 MB.
_MAX_MEMBER_BYTES = 256 * 1024 * 1024
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORD_START = "\u2581"
_TOP_TENSORS = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER_TENSORS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_KEPT_IN_F32 = ("position_embd.", "token_types.")


def convert(zip_path: Path, destination: Path) -> None:
    """Write the model in `zip_path` to `destination` as GGUF (architecture `bert`, F16).

    The same archive always gives the same bytes, so the result's sha256 can be pinned. Raises
    `ConversionError` for an archive that is damaged or holds another kind of model.
    """
    try:
        with zipfile.ZipFile(zip_path) as archive:
            config = json.loads(_member(archive, "config.json"))
            tokenizer = json.loads(_member(archive, "tokenizer.json"))
            weights = safetensors.numpy.load(_member(archive, "model.safetensors"))
        if config["architectures"] != ["BertModel"]:
            raise ConversionError(
                f"{zip_path.name} holds a {config['architectures']} model; only BertModel "
                "can be converted."
            )
        tokens, token_types = _vocabulary(tokenizer)
        tensors = _tensors(weights)
    except (KeyError, ValueError, TypeError, zipfile.BadZipFile, safetensors.SafetensorError) as e:
        raise ConversionError(f"{zip_path.name} is not a usable MiniLM archive: {e!r}") from e
    _write(destination, config, tokens, token_types, tensors)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    size_bytes = archive.getinfo(name).file_size
    if size_bytes > _MAX_MEMBER_BYTES:
        raise ValueError(f"{name} is {size_bytes} bytes, more than {_MAX_MEMBER_BYTES}")
    return archive.read(name)


def _vocabulary(tokenizer: dict[str, Any]) -> tuple[list[str], list[int]]:
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    spelt: list[str] = []
    types: list[int] = []
    for expected_id, (token, token_id) in enumerate(
        sorted(vocabulary.items(), key=lambda item: item[1])
    ):
        if token_id != expected_id:
            raise ValueError(f"token ids have a gap before {token_id}")
        if token in _SPECIAL_TOKENS:
            spelt.append(token)
            types.append(int(gguf.TokenType.CONTROL))
            continue
        # llama.cpp marks the start of a word, WordPiece its continuation.
        spelt.append(token[2:] if token.startswith("##") else _WORD_START + token)
        types.append(int(gguf.TokenType.NORMAL))
    return spelt, types


def _tensors(weights: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """GGUF name → array, sorted by name so that the file's layout is always the same."""
    converted: dict[str, npt.NDArray[Any]] = {}
    for source_name, array in weights.items():
        if source_name.startswith("pooler.") or source_name == "embeddings.position_ids":
            continue
        name = _tensor_name(source_name)
        in_f32 = array.ndim < 2 or name.startswith(_KEPT_IN_F32)
        converted[name] = array.astype(np.float32 if in_f32 else np.float16)
    return dict(sorted(converted.items()))


def _tensor_name(source_name: str) -> str:
    stem, suffix = source_name.rsplit(".", 1)
    if stem in _TOP_TENSORS:
        return f"{_TOP_TENSORS[stem]}.{suffix}"
    encoder, layer, number, part = stem.split(".", 3)
    if (encoder, layer) != ("encoder", "layer"):
        raise ValueError(f"unknown tensor {source_name}")
    return f"blk.{int(number)}.{_LAYER_TENSORS[part]}.{suffix}"


def _write(
    destination: Path,
    config: dict[str, Any],
    tokens: list[str],
    token_types: list[int],
    tensors: dict[str, npt.NDArray[Any]],
) -> None:
    # The writer logs the byte order on every use.
    logging.getLogger("gguf.gguf_writer").setLevel(logging.WARNING)
    writer = gguf.GGUFWriter(destination, "bert")
    writer.add_type("model")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_license("apache-2.0")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("bert-bge")
    writer.add_token_list(tokens)
    writer.add_token_types(token_types)
    writer.add_pad_token_id(tokens.index("[PAD]"))
    writer.add_unk_token_id(tokens.index("[UNK]"))
    writer.add_bos_token_id(tokens.index("[CLS]"))
    writer.add_sep_token_id(tokens.index("[SEP]"))
    writer.add_mask_token_id(tokens.index("[MASK]"))
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
