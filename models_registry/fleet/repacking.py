"""The weights that llama.cpp copies in another order for the CPU it runs on.

The rules are those of its buffer types ``AMX`` and ``CPU_REPACK`` (``ggml/src/ggml-cpu``, 2026):
a matrix that is multiplied with goes to the first of them that takes its type and shape; one whose
rows are only looked up stays in the mapped file. ``output.weight`` that a file leaves out is the
table of token embeddings once more, and is copied even though the table itself stays.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from models_registry.gguf.reader import GGUFHeader, Matrix

# Their names in llama_print_system_info().
AMX: Final = "AMX_INT8"
REPACK: Final = "REPACK"
_AMX_ROW_MULTIPLE: Final = {
    **dict.fromkeys(("Q4_0", "Q4_1", "Q8_0"), 32),
    **dict.fromkeys(("Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), 256),
    "F16": 16,
}
_AMX_ROWS: Final = 32
# The bytes that AMX adds to each block, per byte of it.
_AMX_EXTRA: Final = {"Q8_0": 4 / 34, "Q4_K": 4 / 144, "Q5_K": 4 / 176, "IQ4_XS": 2 / 136}
_REPACKED: Final = {
    "AVX2": {"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"},
    "AVX512": {"Q2_K"},
    "DOTPROD": {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"},
}
COPYING_FEATURES: Final = frozenset({AMX, REPACK, *_REPACKED})
_REPACK_ROWS: Final = 8
_LOOKED_UP: Final = ("token_embd.", "token_types.", "position_embd.")


@dataclass(frozen=True)
class Copied:
    originals: int
    copies: int


def copied_bytes(header: GGUFHeader, cpu_features: Collection[str]) -> Copied:
    """Bytes of the copied weights; for words of ``llama_print_system_info()`` such as ``AVX2``."""
    originals, copies = 0, 0.0
    outputs = [matrix for matrix in header.matrices if matrix.use == "output.weight"]
    for matrix in header.matrices:
        factor = _copy_factor(matrix, cpu_features)
        if not matrix.use.startswith(_LOOKED_UP):
            originals += matrix.size_bytes if factor else 0
            copies += matrix.size_bytes * factor
        elif matrix.use == "token_embd.weight" and not outputs and not header.is_embedding:
            copies += matrix.size_bytes * factor
    return Copied(originals, round(copies))


def _copy_factor(matrix: Matrix, features: Collection[str]) -> float:
    """Bytes of the copy per byte of the original; 0 when the matrix stays where it is."""
    row, rows = matrix.shape[0], matrix.shape[1]
    multiple = _AMX_ROW_MULTIPLE.get(matrix.type, 0)
    fits_amx = multiple and row % multiple == 0 and rows % _AMX_ROWS == 0
    if AMX in features and fits_amx and len(matrix.shape) == 2:  # experts have a third
        return 1.0 + _AMX_EXTRA.get(matrix.type, 0.0)
    repacked = set[str]().union(*(_REPACKED.get(word, ()) for word in features))
    taken = REPACK in features and matrix.type in repacked and rows % _REPACK_ROWS == 0
    return 1.0 if taken else 0.0
