"""How a prediction ended; below both the rows and the plan, which judge and store it."""

from enum import StrEnum


class Outcome(StrEnum):
    """``MISSED`` is a prediction that should have been made."""

    PENDING = "pending"
    HIT = "hit"
    WASTE = "waste"
    MISSED = "missed"
