"""Which generations may have killed a host, and what becomes of them: pure.

A generation is *proven* once its host has computed ``PROVEN_TOKENS`` new tokens for it. One whose
host has died is a *suspect*: it is run beside proven ones only and nothing else is let in until it
is proven too, so that if the host dies again the suspect was the cause. Two deaths make it poison.
A generation that is continued from where it was and kills again does so within a few tokens, that
is before it is proven; one that is proven again was innocent of the first death.
"""

from dataclasses import dataclass

PROVEN_TOKENS = 8
POISON_CRASHES = 2


@dataclass(frozen=True)
class Claim:
    """A generation that a dead host had claimed."""

    id: str
    crashes: int
    proven: bool


def judge(claims: list[Claim]) -> dict[str, int]:
    """New crash count of every generation of a dead host, by id.

    Args:
        claims: what the host had claimed.

    Returns:
        Counts; ``POISON_CRASHES`` or more means it must not run again.
    """
    under_test = {claim.id for claim in claims if claim.crashes and not claim.proven}
    if under_test:
        return {claim.id: claim.crashes + 1 if claim.id in under_test else 0 for claim in claims}
    return {claim.id: 1 for claim in claims}


@dataclass(frozen=True)
class Running:
    """A generation on a living host."""

    crashes: int
    proven: bool


def may_claim_fresh(running: list[Running]) -> bool:
    """Whether a generation that never lost a host may be taken now."""
    return not any(item.crashes and not item.proven for item in running)


def may_claim_suspect(running: list[Running]) -> bool:
    """Whether a suspect may be taken now: only beside proven ones."""
    return all(item.proven for item in running)
