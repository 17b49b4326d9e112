"""Bytes that a replica will take, estimated from the header of its model file.

The terms follow llama.cpp's own buffers as it logs them while loading (flash attention, mapped
weights). Only memory that cannot be reclaimed while the model is in use counts: anonymous memory,
and the weights that are read from the mapped file. On CPUs for whose instructions llama.cpp
rearranges weights (AMX, AVX2, NEON) it computes on the copy; the file's pages of the original are
never read again, the kernel drops them when memory is short, and so they do not count.

The estimate is within 10 % of the bytes measured after work (see the tests), without those of the
Python process before the load.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from models_registry.fleet.repacking import copied_bytes
from models_registry.gguf.reader import GGUFHeader

CPU: Final = "cpu"
_FLOAT_BYTES: Final = 4
_MASK_BYTES: Final = 2  # the attention mask is F16
_CELL_BLOCK: Final = 256  # llama.cpp rounds the KV cache up to this many cells
# A token or merge in llama.cpp's tables, and a token in the table that grammars need.
_VOCABULARY_ENTRY_BYTES: Final = 170
_GRAMMAR_TOKEN_BYTES: Final = 340
_MAX_STEP_TOKENS: Final = 512
_KEPT_SEQUENCES: Final = 32
_MAX_SEQUENCE_IDS: Final = 256  # llama.cpp's LLAMA_MAX_SEQ


def kept_sequences(max_sequences: int) -> int:
    """Sequences that a host keeps after their end, beside those it runs."""
    return max(0, min(_KEPT_SEQUENCES, _MAX_SEQUENCE_IDS - max_sequences))


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one replica by purpose.

    ``mapped_bytes`` are the weights that are read from the file, ``weights_bytes`` the others and
    the vocabulary. ``late_bytes`` are not touched before the first step or grammar.
    """

    mapped_bytes: int
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    output_bytes: int
    late_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.mapped_bytes + self.private_bytes

    @property
    def private_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.output_bytes


def estimate_bytes(
    header: GGUFHeader,
    kv_cells: int,
    max_sequences: int,
    *,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
    cpu_features: Collection[str] = (),
) -> MemoryEstimate:
    """Estimate the memory of a replica on a CPU.

    * weights: the file, less the rearranged weights, and their copies; the vocabulary's tables;
    * KV cache: cells x bytes per token (none for an encoder; full size for sliding windows);
    * compute: the larger of a step's activations with its attention mask and its logits;
    * output: the buffer of logits and embeddings.

    Args:
        kv_cells: tokens of KV cache that all sequences share; of an embedding model, tokens
            computed at once.
        cache_type_k, cache_type_v: ggml types of the KV cache's keys and values.

    Raises:
        ValueError: a number is below 1, or a cache type unknown.
    """
    for name, value in (("kv_cells", kv_cells), ("max_sequences", max_sequences)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    copies = copied_bytes(header, cpu_features)
    vocabulary = (header.vocab_size + header.merge_count) * _VOCABULARY_ENTRY_BYTES
    grammars = 0 if header.is_embedding else header.vocab_size * _GRAMMAR_TOKEN_BYTES
    cells = math.ceil(kv_cells / _CELL_BLOCK) * _CELL_BLOCK
    at_once = max(kv_cells, header.context_length)
    step_tokens = at_once if header.is_embedding else _MAX_STEP_TOKENS
    # llama.cpp reserves an output for each token of a step where it pools over them.
    outputs = step_tokens if header.is_embedding else max_sequences + kept_sequences(max_sequences)
    width = header.vocab_size + (header.embedding_length if header.is_embedding else 0)
    compute_bytes = _compute_bytes(header, cells, outputs, step_tokens)
    output_bytes = outputs * width * _FLOAT_BYTES
    return MemoryEstimate(
        mapped_bytes=header.tensor_bytes - copies.originals,
        weights_bytes=copies.copies + vocabulary + grammars,
        kv_bytes=cells * header.kv_bytes_per_token(cache_type_k, cache_type_v),
        compute_bytes=compute_bytes,
        output_bytes=output_bytes,
        late_bytes=compute_bytes + grammars + (output_bytes if header.is_embedding else 0),
    )


def _compute_bytes(header: GGUFHeader, cells: int, outputs: int, step_tokens: int) -> int:
    # A decoder's feed-forward is gated: three tensors of its length are alive at once, not one.
    width = header.feed_forward_length * (3 if header.causal else 1) + 4 * header.embedding_length
    activations = step_tokens * _FLOAT_BYTES * width
    attended = cells if header.causal else step_tokens
    mask = step_tokens * attended * _MASK_BYTES
    # An encoder computes no logits, though room for them is kept in the output buffer.
    logits = 0 if header.is_embedding else outputs * header.vocab_size * _FLOAT_BYTES
    return max(activations + mask, logits)


def device_bytes(
    header: GGUFHeader, estimate: MemoryEstimate, gpu_layers: int, shares: Mapping[str, float]
) -> dict[str, int]:
    """Split an estimate, made without ``cpu_features``, over GPUs and the CPU.

    The layers that go to the GPUs take their weights, their part of the KV cache and a compute
    buffer with them; the table of embeddings and those of the vocabulary stay. ``gpu_layers`` of -1
    means all; ``shares`` is the part of them for each GPU (sum 1), empty for the CPU alone.
    """
    if not shares or gpu_layers == 0:
        return {CPU: estimate.total_bytes}
    # The output counts as a layer in llama.cpp.
    all_layers = header.block_count + 1
    part = 1.0 if gpu_layers < 0 else min(1.0, gpu_layers / all_layers)
    table = sum(m.size_bytes for m in header.matrices if m.use == "token_embd.weight")
    tied = all(m.use != "output.weight" for m in header.matrices) and not header.is_embedding
    moved = part * (estimate.mapped_bytes - (0 if tied else table) + estimate.kv_bytes)
    moved += estimate.compute_bytes
    stays = estimate.total_bytes - moved + (table if tied else 0)
    return {CPU: round(stays)} | {name: round(moved * share) for name, share in shares.items()}
