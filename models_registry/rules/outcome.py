"""How a demand prediction ended; shared by the rows and the plan, which import no other."""

from enum import StrEnum


class Outcome(StrEnum):
    """``MISSED`` is the outcome of a request without a prediction."""

    PENDING = "pending"
    HIT = "hit"
    WASTE = "waste"
    MISSED = "missed"
