"""A model file of a few kilobytes whose model keeps a state in place of KV cells."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType

_EMBEDDING, _INNER, _STATE, _RANK, _KERNEL, _BLOCKS = 16, 32, 8, 4, 4, 2
_BYTES = 256
FIRST_BYTE = 3  # the token ids before it are control tokens


def write_mamba(path: Path) -> None:
    """Write a Mamba with random weights whose tokens are bytes, as llama.cpp reads it.

    Shapes are those of ``llama_model_mamba::load_arch_tensors``, turned round as NumPy has them.
    """
    draw = np.random.default_rng(5)
    writer = GGUFWriter(path, "mamba")
    _write_sizes(writer)
    _write_vocabulary(writer)

    def random(name: str, *shape: int) -> None:
        scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.5
        writer.add_tensor(name, draw.normal(0, scale, shape).astype(np.float32))

    vocabulary = FIRST_BYTE + _BYTES
    writer.add_tensor(
        "token_embd.weight", draw.normal(0, 1, (vocabulary, _EMBEDDING)).astype(np.float32)
    )
    writer.add_tensor("output_norm.weight", np.ones(_EMBEDDING, np.float32))
    for block in range(_BLOCKS):
        begin = f"blk.{block}."
        writer.add_tensor(begin + "attn_norm.weight", np.ones(_EMBEDDING, np.float32))
        random(begin + "ssm_in.weight", 2 * _INNER, _EMBEDDING)
        random(begin + "ssm_conv1d.weight", _INNER, _KERNEL)
        random(begin + "ssm_conv1d.bias", _INNER)
        random(begin + "ssm_x.weight", _RANK + 2 * _STATE, _INNER)
        random(begin + "ssm_dt.weight", _INNER, _RANK)
        random(begin + "ssm_dt.bias", _INNER)
        decay = -np.tile(np.arange(1, _STATE + 1, dtype=np.float32) / 20, (_INNER, 1))
        writer.add_tensor(begin + "ssm_a", decay)
        writer.add_tensor(begin + "ssm_d", np.ones(_INNER, np.float32))
        random(begin + "ssm_out.weight", _EMBEDDING, _INNER)
    random("output.weight", vocabulary, _EMBEDDING)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: GGUFWriter) -> None:
    writer.add_context_length(1024)
    writer.add_embedding_length(_EMBEDDING)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(_BLOCKS)
    writer.add_ssm_conv_kernel(_KERNEL)
    writer.add_ssm_inner_size(_INNER)
    writer.add_ssm_state_size(_STATE)
    writer.add_ssm_time_step_rank(_RANK)
    writer.add_layer_norm_rms_eps(1e-5)


def _write_vocabulary(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % n for n in range(_BYTES))])
    writer.add_token_scores([0.0] * (FIRST_BYTE + _BYTES))
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * _BYTES]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
