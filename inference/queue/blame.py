"""Generations that may have killed a host, and whether they may run again: pure.

1. A generation is *proven* once its host has computed ``PROVEN_TOKENS`` new tokens for it.
2. After the death of its host a generation is a *suspect*. It runs beside proven generations only,
   and no other starts until it is proven too: if the host dies again, the suspect was the cause.
3. A suspect whose host dies again is *poison* and fails.
4. A suspect that is proven is cleared: a generation that kills does so again within a few tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROVEN_TOKENS = 8
POISON_CRASHES = 2


@dataclass(frozen=True)
class Claim:
    """A generation that a host has claimed; ``crashes`` counts the hosts that died under it."""

    crashes: int
    proven: bool


def judge(claims: Mapping[str, Claim]) -> dict[str, int]:
    """New crash counts of a dead host's generations, by id; ``POISON_CRASHES`` make it poison."""
    suspects = {id_ for id_, claim in claims.items() if claim.crashes and not claim.proven}
    if suspects:
        return {id_: claims[id_].crashes + 1 if id_ in suspects else 0 for id_ in claims}
    return dict.fromkeys(claims, 1)


def may_claim_fresh(running: Sequence[Claim]) -> bool:
    """Whether a generation that never lost a host may be taken now."""
    return not any(item.crashes and not item.proven for item in running)


def may_claim_suspect(running: Sequence[Claim]) -> bool:
    return all(item.proven for item in running)
