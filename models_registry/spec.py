"""What other apps see of a version: a frozen value, free of the ORM."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model, as far as serving it is concerned.

    ``context_length_tokens`` bounds prompt and completion of one sequence; ``kv_cells`` bounds
    all sequences of a replica together.
    """

    model_slug: str
    version_key: str
    type: str
    path: str
    chat_template: str
    context_length_tokens: int
    kv_cells: int
    max_sequences: int
    gpu_layers: int = 0
    embedding_dimensions: int | None = None
    default_sampling: dict[str, Any] = field(default_factory=dict)

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence a replica can hold: the model's context or the whole KV cache."""
        return min(self.context_length_tokens, self.kv_cells)
