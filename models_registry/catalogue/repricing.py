"""Prices for the past: the serving app, which has the records, registers how to correct costs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from models_registry.errors import RegistryError
from models_registry.rules.price import Price


@dataclass(frozen=True)
class Repricing:
    """A span whose requests may have had another price; ``prices`` are all of the version."""

    version_key: str
    prices: tuple[Price, ...]
    since: datetime
    until: datetime | None
    made_by: str


# Given a repricing, and whether it is only tried, returns the number of requests and the sum in
# billionths of a US dollar. Raises ``RegistryError`` when the records are gone.
Reprice = Callable[[Repricing, bool], tuple[int, int]]

_sources: list[Reprice] = []


def register_reprice(source: Reprice) -> None:
    _sources[:] = [source]


def reprice(repricing: Repricing, *, is_trial: bool) -> tuple[int, int]:
    if not _sources:
        raise RegistryError("Nothing is registered in this process that corrects costs.")
    return _sources[0](repricing, is_trial)
