from dataclasses import dataclass


@dataclass(frozen=True)
class EngineConfig:
    """Limits of one engine."""

    kv_cells: int
    max_sequences: int
    step_tokens: int = 512
    # While other sequences wait for their next token, a long prompt may make a step
    # ``max_slowdown`` times as long (``scheduler`` has exceptions). Until step times are known it
    # gets the budget.
    prefill_budget_tokens: int = 128
    max_slowdown: float = 2.0
    # Ended sequences are kept to share their beginnings, together with at most ``kept_cells`` cells
    # of their own, and at most until others have generated ``hold_tokens``.
    kept_sequences: int = 32
    kept_cells: int = 8192
    hold_tokens: int = 2048
    shares_prefixes: bool = True  # false for recurrent models
    # With more sequences a batch is wide, and a guess costs as much as a token.
    max_draft_tokens: int = 16
    max_drafting_sequences: int = 4

    @property
    def step_outputs(self) -> int:
        """Tokens of one step whose logits are kept."""
        return self.max_sequences + self.kept_sequences

    def __post_init__(self) -> None:
        for name in ("kv_cells", "max_sequences", "step_tokens", "prefill_budget_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.step_tokens < self.max_sequences:
            raise ValueError(
                f"step_tokens ({self.step_tokens}) must hold one token for each of "
                f"{self.max_sequences} sequences"
            )
