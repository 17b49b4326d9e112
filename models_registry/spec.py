"""What other apps see of a version: a frozen value, free of the ORM."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model, as far as serving it is concerned.

    ``context_length_tokens`` bounds prompt and completion of one sequence; ``kv_cells`` bounds
    all sequences of a replica together. The options from ``threads`` on are those of
    ``models_registry.models.runtime``; ``threads`` is None where the service's setting counts.
    ``draft_path`` is the file of the model that guesses tokens ahead, if there is one.
    """

    model_slug: str
    version_key: str
    type: str
    path: str
    chat_template: str
    context_length_tokens: int
    kv_cells: int
    max_sequences: int
    threads: int | None = None
    device: str = "auto"
    gpu_layers: int = -1
    tensor_split: tuple[float, ...] = ()
    flash_attention: str = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    draft_path: str | None = None
    speculation: str = "auto"
    embedding_dimensions: int | None = None
    default_sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence a replica can hold: the model's context or the whole KV cache."""
        return min(self.context_length_tokens, self.kv_cells)
