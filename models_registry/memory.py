"""How many bytes a replica will take, foreseen from the header of its model file.

The terms follow llama.cpp's own buffers as it logs them while loading, checked against the
resident set of the process (CPU, flash attention, mapped weights):

    SmolLM2-135M Q4_1    4,096 cells,  32 sequences,  512-token steps   238 MB
    SmolLM2-135M Q4_1   16,384 cells,  32 sequences,  512-token steps   524 MB
    SmolLM2-135M Q4_1   65,536 cells,  32 sequences,  512-token steps  1659 MB
    with keys and values in q8_0:
    SmolLM2-135M Q4_1   16,384 cells,  32 sequences,  512-token steps   342 MB
    encoders keep neither:
    all-MiniLM-L6-v2       512 cells,   1 sequence,   512-token steps   125 MB
    all-MiniLM-L6-v2     2,048 cells,  8 sequences, 2048-token steps   342 MB

The estimate is within 7 % of each. What the Python process takes before the load is not in it,
and neither is the second copy of the weights, up to the size of the file, that llama.cpp makes on
CPUs for whose instructions it rearranges them (AMX, and AVX-512 for Q4_0).
"""

from dataclasses import dataclass
from typing import Final

from models_registry.gguf import GGUFHeader

_FLOAT_BYTES: Final = 4
_MASK_BYTES: Final = 2  # the attention mask is F16
_CELL_BLOCK: Final = 256  # llama.cpp rounds the KV cache up to this many cells
_VOCABULARY_ENTRY_BYTES: Final = 180  # a token or merge in llama.cpp's tables; 154 to 178 measured


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one replica by purpose."""

    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_bytes + self.compute_bytes


def estimate_bytes(
    header: GGUFHeader,
    kv_cells: int,
    max_sequences: int,
    *,
    step_tokens: int = 512,
    cache_type_k: str = "f16",
    cache_type_v: str = "f16",
) -> MemoryEstimate:
    """Foresee what a replica takes.

    * weights: the file, and the vocabulary's tables;
    * KV cache: cells x bytes per token (none for an encoder; full size for sliding windows);
    * compute: the larger of a step's activations with its attention mask and its logits, and the
      buffer the logits and embeddings are handed out in.

    Args:
        header: Facts of the model.
        kv_cells: Tokens of KV cache that all sequences share.
        max_sequences: Sequences at once; each may ask for the logits of one token a step.
        step_tokens: Tokens computed at once (llama.cpp's `n_ubatch`).
        cache_type_k, cache_type_v: ggml types of the KV cache's keys and values.

    Raises:
        ValueError: A number is below 1, or a cache type unknown.
    """
    for name, value in (
        ("kv_cells", kv_cells),
        ("max_sequences", max_sequences),
        ("step_tokens", step_tokens),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
    vocabulary_entries = header.vocab_size + header.merge_count
    cells = -(-kv_cells // _CELL_BLOCK) * _CELL_BLOCK
    return MemoryEstimate(
        weights_bytes=header.file_bytes + vocabulary_entries * _VOCABULARY_ENTRY_BYTES,
        kv_bytes=cells * header.kv_bytes_per_token(cache_type_k, cache_type_v),
        compute_bytes=_compute_bytes(header, cells, max_sequences, step_tokens),
    )


def _compute_bytes(header: GGUFHeader, cells: int, max_sequences: int, step_tokens: int) -> int:
    pools = not header.causal or header.pooling_type not in (None, "none")
    # llama.cpp reserves an output for each token of a step where it pools over them.
    output_rows = step_tokens if pools else max_sequences
    output_width = header.vocab_size + (header.embedding_length if pools else 0)
    activations = (
        step_tokens * _FLOAT_BYTES * (3 * header.feed_forward_length + 4 * header.embedding_length)
    )
    attended = cells if header.causal else step_tokens
    mask = step_tokens * attended * _MASK_BYTES
    # An encoder computes no logits, though room for them is kept in the output buffer.
    logits = 0 if pools else output_rows * header.vocab_size * _FLOAT_BYTES
    return max(activations + mask, logits) + output_rows * output_width * _FLOAT_BYTES
