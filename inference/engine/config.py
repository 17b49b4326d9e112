"""What an engine needs to know before its first step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineConfig:
    """Limits of one engine.

    ``kv_cells`` tokens of attention state are shared by at most ``max_sequences`` sequences.
    One step decodes at most ``step_tokens`` tokens. While other sequences wait for their next
    token, a long prompt gets so many of these that the step takes at most ``max_slowdown`` times as
    long, ``prefill_budget_tokens`` until the engine knows how long steps take; what else may be
    longer is in the scheduler.

    Up to ``max_draft_tokens`` are guessed ahead for each of at most ``max_drafting_sequences``:
    with more, a batch is wide enough, and a guess costs what a token costs.

    Sequences that have ended are kept to share beginnings with, at most ``kept_sequences`` with
    ``kept_cells`` cells of their own, and not for longer than others generate ``hold_tokens``,
    unless the model is one that cannot (``shares_prefixes``).
    """

    kv_cells: int
    max_sequences: int
    step_tokens: int = 512
    prefill_budget_tokens: int = 128
    max_slowdown: float = 2.0
    kept_sequences: int = 32
    kept_cells: int = 8192
    hold_tokens: int = 2048
    shares_prefixes: bool = True
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
