"""The tokens that each section of an orchestrated prompt may have."""

from dataclasses import astuple, dataclass

from models_registry.rules.spec import ModelSpec

LEAST_ANSWER = 256
_OF_8K = {
    "system": 500, "trajectory": 300, "handoff": 1500, "user_query": 2000, "generation": 3892,
}  # fmt: skip


@dataclass(frozen=True)
class Sections:
    """Tokens of each section."""

    system: int
    trajectory: int
    handoff: int
    user_query: int
    generation: int


def sections_of(spec: ModelSpec) -> Sections:
    """The sections of a version's budget, else usual shares of its context.

    A budget may be older than the KV cache; it shrinks to the longest sequence.
    """
    shares, limit = spec.sections or _OF_8K, spec.sequence_limit_tokens
    total = sum(shares.values())
    if spec.sections and total <= limit:
        return Sections(**shares)
    return Sections(**{name: tokens * limit // total for name, tokens in shares.items()})


def room_for(
    sections: Sections, *, conversation: int, trajectory: int, max_tokens: int | None
) -> int:
    """The tokens that the handoff of a call may have beside ``conversation`` and ``trajectory``.

    It borrows what the trajectory does not use, and what the answer does not want (``max_tokens``;
    None wants the whole section). A conversation longer than its sections takes from the answer
    first, down to ``LEAST_ANSWER`` tokens, then from the handoff.
    """
    used = max(conversation, sections.system + sections.user_query) + trajectory
    free = sum(astuple(sections)) - used
    wanted = min(max_tokens or sections.generation, sections.generation)
    return max(free - wanted, min(sections.handoff, free - min(wanted, LEAST_ANSWER)), 0)
