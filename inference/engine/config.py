"""What an engine needs to know before its first step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineConfig:
    """Limits of one engine.

    ``kv_cells`` tokens of attention state are shared by at most ``max_sequences`` sequences.
    One step decodes at most ``step_tokens`` tokens; while other sequences wait for their next
    token, at most ``prefill_budget_tokens`` of these are prompt.
    """

    kv_cells: int
    max_sequences: int
    step_tokens: int = 512
    prefill_budget_tokens: int = 128

    def __post_init__(self) -> None:
        for name in ("kv_cells", "max_sequences", "step_tokens", "prefill_budget_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.step_tokens < self.max_sequences:
            raise ValueError(
                f"step_tokens ({self.step_tokens}) must hold one token for each of "
                f"{self.max_sequences} sequences"
            )
