"""Read the facts about a model from the header of its GGUF file."""

import math
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from models_registry.gguf.architectures import reason_against
from models_registry.gguf.format import (
    Container,
    GGUFError,
    Tensor,
    TypeSizes,
    read_container,
    reason_against_part,
)
from models_registry.gguf.key_values import MAX_COUNT, KeyValues
from models_registry.rules.capabilities import FIM_TOKENS, knows_fim

__all__ = ["GGUFError", "GGUFHeader", "read_header"]

_READ_BUFFER_BYTES: Final = 1024 * 1024
_MAX_BLOCKS: Final = 4096
_MAX_ARCHITECTURE_CHARACTERS: Final = 50
# Encoders for which llama.cpp makes no KV cache even without `attention.causal` in the header.
_ENCODERS: Final = {
    "bert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe", "neo-bert",
    "modern-bert", "gemma-embedding",
}  # fmt: skip


@dataclass(frozen=True)
class Matrix:
    """All tensors of one type, shape and use together."""

    use: str  # the name of the tensors without `blk.N.`
    type: str
    shape: tuple[int, ...]  # the length of a row first
    size_bytes: int


@dataclass(frozen=True)
class GGUFHeader:
    """The facts about a model; without a value a count is 0, and a text or token id None."""

    architecture: str
    name: str | None
    quantisation: str
    context_length: int
    embedding_length: int
    block_count: int
    feed_forward_length: int
    head_count: int
    head_count_kv: tuple[int, ...]  # by block
    key_length: int
    value_length: int
    vocab_size: int
    merge_count: int
    chat_template: str | None
    bos_token_id: int | None
    eos_token_id: int | None
    add_bos: bool | None
    pooling_type: str | None
    causal: bool
    sliding_window: int
    tensor_bytes: int
    file_bytes: int
    knows_fim: bool = False  # the vocabulary has fill-in-the-middle tokens
    matrices: tuple[Matrix, ...] = ()

    @property
    def is_embedding(self) -> bool:
        return not self.causal or self.pooling_type not in (None, "none")

    def kv_bytes_per_token(self, type_k: str = "f16", type_v: str = "f16") -> int:
        """KV cache bytes of one token: the sum over blocks of KV heads x (key length x bytes per
        element of keys + the same of values), rounded up; 0 for an encoder. Sliding-window models
        have a full-size cache, too. Types are ggml types such as `f16` or `q8_0`.
        """
        if not self.causal:
            return 0
        key_bytes = self.key_length * _bytes_per_element(type_k)
        value_bytes = self.value_length * _bytes_per_element(type_v)
        return math.ceil(sum(self.head_count_kv) * (key_bytes + value_bytes))


def read_header(path: Path) -> GGUFHeader:
    """Read the header of a GGUF file. Raises `GGUFError` unless llama.cpp can run the model."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=_READ_BUFFER_BYTES) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise GGUFError(f"{path}: not a regular file.")
            container = read_container(file, status.st_size, _type_sizes(), FIM_TOKENS)
        header = _header(container, status.st_size)
        _require_usable(header, container)
        return header
    except OSError as error:
        raise GGUFError(f"{path} cannot be read: {error.strerror or error}.") from error
    except GGUFError as error:
        raise GGUFError(f"{path.name}: {error}") from error


def _header(container: Container, file_bytes: int) -> GGUFHeader:
    values = KeyValues(container.values)
    parts = values.number("split.count") or 1
    if parts > 1:
        raise GGUFError(reason_against_part(parts))
    architecture = values.text("general.architecture")
    if architecture is None:
        raise GGUFError("The header does not name the model's architecture.")
    values.prefix = architecture
    block_count = values.required("block_count", _MAX_BLOCKS)
    embedding_length = values.required("embedding_length", MAX_COUNT)
    head_count = max(values.per_block("attention.head_count", block_count, 0), default=0)
    head_length = embedding_length // head_count if head_count else 0
    return GGUFHeader(
        architecture=architecture,
        name=values.text("general.name"),
        quantisation=_quantisation(values.number("general.file_type")),
        context_length=values.required("context_length", MAX_COUNT),
        embedding_length=embedding_length,
        block_count=block_count,
        feed_forward_length=values.count("feed_forward_length", 0),
        head_count=head_count,
        head_count_kv=values.per_block("attention.head_count_kv", block_count, head_count),
        key_length=values.count("attention.key_length", head_length),
        value_length=values.count("attention.value_length", head_length),
        vocab_size=values.length("tokenizer.ggml.tokens"),
        merge_count=values.length("tokenizer.ggml.merges"),
        chat_template=values.text("tokenizer.chat_template"),
        bos_token_id=values.token_id("tokenizer.ggml.bos_token_id"),
        eos_token_id=values.token_id("tokenizer.ggml.eos_token_id"),
        add_bos=values.flag("tokenizer.ggml.add_bos_token"),
        pooling_type=_pooling_type(values.number(f"{architecture}.pooling_type")),
        causal=values.flag(f"{architecture}.attention.causal") is not False
        and architecture not in _ENCODERS,
        sliding_window=values.count("attention.sliding_window", 0),
        tensor_bytes=sum(tensor.size_bytes for tensor in container.tensors),
        file_bytes=file_bytes,
        knows_fim=knows_fim(values.seen("tokenizer.ggml.tokens")),
        matrices=_matrices(container.tensors),
    )


def _require_usable(header: GGUFHeader, container: Container) -> None:
    if len(header.architecture) > _MAX_ARCHITECTURE_CHARACTERS:
        raise GGUFError(
            f"The architecture's name has {len(header.architecture)} characters, more than "
            f"{_MAX_ARCHITECTURE_CHARACTERS}."
        )
    kv_bytes = header.kv_bytes_per_token()
    if kv_bytes > MAX_COUNT:
        raise GGUFError(f"The KV cache would take {kv_bytes} bytes per token; it is damaged.")
    reason = reason_against(
        header.architecture,
        tokenizer=KeyValues(container.values).text("tokenizer.ggml.model"),
        vocab_size=header.vocab_size,
        head_count=header.head_count,
        keys=container.values.keys(),
    )
    if reason:
        raise GGUFError(reason)


def _matrices(tensors: Iterable[Tensor]) -> tuple[Matrix, ...]:
    from gguf import GGMLQuantizationType

    sizes: dict[tuple[str, str, tuple[int, ...]], int] = defaultdict(int)
    for tensor in tensors:
        if "\0" in tensor.name:
            raise GGUFError(f"The tensor name {tensor.name!r} has a NUL character.")
        if len(tensor.shape) > 1:
            use = re.sub(r"^blk\.\d+\.", "", tensor.name)
            sizes[use, GGMLQuantizationType(tensor.type).name, tensor.shape] += tensor.size_bytes
    return tuple(Matrix(*kind, size_bytes) for kind, size_bytes in sizes.items())


# gguf is imported late: it imports NumPy (0.2 s), which only reading a header needs.
def _type_sizes() -> TypeSizes:
    from gguf import GGML_QUANT_SIZES

    return {int(tensor_type): sizes for tensor_type, sizes in GGML_QUANT_SIZES.items()}


def _bytes_per_element(cache_type: str) -> Fraction:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        elements, size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[cache_type.upper()]]
    except KeyError:
        raise ValueError(f"{cache_type!r} is not a ggml type such as f16 or q8_0.") from None
    return Fraction(size_bytes, elements)


def _quantisation(file_type: int | None) -> str:
    from gguf import LlamaFileType

    if file_type is None:
        return "unknown"
    try:
        return LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return f"file type {file_type}"


def _pooling_type(number: int | None) -> str | None:
    from gguf import PoolingType

    if number is None:
        return None
    try:
        return PoolingType(number).name.lower()
    except ValueError:
        raise GGUFError(f"The pooling type {number} is unknown.") from None
