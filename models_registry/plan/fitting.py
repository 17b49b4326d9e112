"""Whether several versions fit into memory together: pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models_registry.plan.reasons import format_bytes


@dataclass(frozen=True)
class Fit:
    """Whether the members of a preset fit on a device at once.

    ``missing_bytes`` is by how much they do not. ``resident`` are the members that fit together,
    taken in their order; ``swapped`` those that take turns beside them; ``never`` those that do
    not fit even alone.
    """

    needed_bytes: int
    budget_bytes: int
    resident: tuple[str, ...]
    swapped: tuple[str, ...]
    never: tuple[str, ...]

    @property
    def missing_bytes(self) -> int:
        """Bytes that all of them together lack; 0 when they fit."""
        return max(0, self.needed_bytes - self.budget_bytes)

    def __str__(self) -> str:
        """One or two sentences for people."""
        needed, budget = format_bytes(self.needed_bytes), format_bytes(self.budget_bytes)
        if not self.missing_bytes:
            return f"Fits: it needs {needed} of {budget}."
        parts = [
            f"Does not fit at once: it needs {needed}, {format_bytes(self.missing_bytes)} more "
            f"than the {budget} there are."
        ]
        if self.resident:
            parts.append(f"Together fit {', '.join(self.resident)}.")
        if self.swapped:
            parts.append(f"Loaded in turn: {', '.join(self.swapped)}.")
        if self.never:
            parts.append(f"Too large even alone: {', '.join(self.never)}.")
        return " ".join(parts)


def fit(members: Sequence[str], needs: Mapping[str, int], budget_bytes: int) -> Fit:
    """See which members of a preset fit.

    Args:
        members: version keys in their order; one that occurs twice is in memory once.
        needs: bytes of each.
        budget_bytes: what the device may hold.
    """
    resident: list[str] = []
    swapped: list[str] = []
    never: list[str] = []
    used = 0
    for member in dict.fromkeys(members):
        if needs[member] > budget_bytes:
            never.append(member)
        elif used + needs[member] <= budget_bytes:
            resident.append(member)
            used += needs[member]
        else:
            swapped.append(member)
    return Fit(
        sum(needs[member] for member in dict.fromkeys(members)),
        budget_bytes,
        tuple(resident),
        tuple(swapped),
        tuple(never),
    )
