"""The interface of drafters, which guess tokens ahead of the model."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class DraftRequest:
    """A request for ``tokens`` more of ``token_ids`` (prompt and output so far).

    ``key`` names the sequence: from one request to the next its ``token_ids`` only grow.
    """

    key: Hashable
    token_ids: list[int]
    tokens: int


@dataclass
class Draft:
    """At most as many tokens as asked for, each with a grade from 0 to ``Drafter.top_grade``.

    A higher grade means a surer guess; the probability behind it is learnt from checked drafts.
    """

    token_ids: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)


class Drafter(Protocol):
    """A source of drafts, used by one thread.

    ``is_free`` means that a draft costs next to nothing: it is made for every sequence, and its
    grades are known before anything is computed.
    """

    top_grade: int
    is_free: bool

    def seconds(self, tokens: int, rounds: int) -> float:
        """Time to compute ``tokens`` tokens, drafted or before the draft, in ``rounds`` steps."""

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """A draft for each request, in order; an empty one where there is no guess."""

    def forget(self, key: Hashable) -> None:
        """Drop the state of a sequence that has ended; unknown keys are ignored."""
