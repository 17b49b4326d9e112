"""What guesses tokens ahead of the model: a common form for lookup and for a draft model."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class DraftRequest:
    """``tokens`` more of ``token_ids`` (prompt and output so far) are wanted.

    ``key`` names the sequence: from one request to the next its ``token_ids`` only grow.
    """

    key: Hashable
    token_ids: list[int]
    tokens: int


@dataclass(frozen=True)
class Draft:
    """Guessed tokens, as many as asked for or fewer.

    ``grades`` say of each token how sure the drafter is, from 0 to ``Drafter.top_grade``; what a
    grade is worth is learnt from what becomes of the guesses.
    """

    token_ids: list[int] = field(default_factory=list)
    grades: list[int] = field(default_factory=list)


class Drafter(Protocol):
    """A source of drafts, used by one thread.

    ``is_free`` means that a guess costs next to nothing, so that one is made for every token and
    its worth is known before any is computed.
    """

    top_grade: int
    is_free: bool

    def seconds(self, tokens: int, rounds: int) -> float:
        """What it takes to compute ``tokens`` guesses or tokens before them in ``rounds`` steps."""
        ...

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """A draft for each request, in order; an empty one where there is no guess."""
        ...

    def forget(self, key: Hashable) -> None:
        """Drop what is kept for a sequence that has ended; unknown keys are ignored."""
        ...
