"""How right the demand prediction was, as a table: for the terminal and the admin."""

from typing import Final

from models_registry.fleet.predictions import Tally, total

MEANING: Final = (
    "A hit was asked for in its time, a waste was not; missed is what was asked for, out of memory "
    "and not foreseen."
)
HEADERS: Final = (
    *("version", "hits", "wastes", "missed", "pending", "precision", "recall", "idle GiB·h"),
)
_GIB_HOUR: Final = (1 << 30) * 3600


def rows_of(found: dict[str, Tally]) -> list[tuple[str, ...]]:
    """A row under ``HEADERS`` for each version, and a last one for all together.

    Args:
        found: tallies by version key.
    """
    return [(key, *_cells(tally)) for key, tally in {**found, "all": total(found.values())}.items()]


def gib_hours(byte_seconds: float) -> str:
    """Memory that lay idle, without its unit."""
    return f"{byte_seconds / _GIB_HOUR:.2f}"


def _cells(tally: Tally) -> list[str]:
    counts = (tally.hits, tally.wastes, tally.missed, tally.pending)
    shares = (tally.precision, tally.recall)
    return [
        *map(str, counts),
        *("-" if share is None else f"{share:.0%}" for share in shares),
        gib_hours(tally.wasted_byte_seconds),
    ]
