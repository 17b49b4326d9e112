"""The interface of drafters, which guess tokens ahead of the model."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class DraftRequest:
    """A request for ``tokens`` more of ``token_ids``, which only grow from request to request."""

    key: Hashable
    token_ids: list[int]
    tokens: int


@dataclass
class Draft:
    """At most as many tokens as asked for; ``grades`` say how sure each guess is."""

    token_ids: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)


class Drafter(Protocol):
    """A source of drafts, used by one thread."""

    # Grades are 0 to top_grade. The probability behind a grade is learnt from checked drafts.
    top_grade: int
    # A draft costs next to nothing, so every sequence gets one.
    is_free: bool

    def seconds(self, tokens: int, rounds: int) -> float:
        """Time to compute ``tokens`` tokens, drafted or before the draft, in ``rounds`` steps."""

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """A draft for each request, in order; an empty one where there is no guess."""

    def forget(self, key: Hashable) -> None:
        """Drop the state of a sequence that has ended; unknown keys are ignored."""
