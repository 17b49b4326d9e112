"""Prices of a version, and which of them is in force at a moment."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

NANO: Final = 10**9


@dataclass(frozen=True)
class Price:
    """Billionths of a US dollar per million tokens, and per hour on a device."""

    id: int
    valid_from: datetime
    prompt_nano: int
    cached_nano: int
    completion_nano: int
    device_hour_nano: int


def price_at(prices: Iterable[Price], moment: datetime) -> Price | None:
    """The price in force; None when all begin later. Of two with the same time the later counts."""
    begun = (price for price in prices if price.valid_from <= moment)
    return max(begun, key=lambda price: (price.valid_from, price.id), default=None)
