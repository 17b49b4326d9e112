"""Live figures of hosts and queues, from a source that the serving app registers at its start."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HostFigures:
    running: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class LiveFigures:
    """Figures of hosts by launch id, queue lengths by version key, and nodes that take tasks.

    ``fault`` says why figures are missing; "" when none are.
    """

    hosts: Mapping[str, HostFigures] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)
    alive_nodes: frozenset[str] = frozenset()
    fault: str = ""


@dataclass(frozen=True)
class Subjects:
    launch_ids: Sequence[str]
    version_keys: Sequence[str]
    nodes: Sequence[str]


FigureSource = Callable[[Subjects], LiveFigures]
"""Reads the figures; never raises for a server that is away, but says so in ``fault``."""

_sources: list[FigureSource] = []


def register_figures(source: FigureSource) -> None:
    _sources[:] = [source]


def read_figures(subjects: Subjects) -> LiveFigures:
    if not _sources:
        return LiveFigures(fault="No source of live figures is registered in this process.")
    return _sources[0](subjects)
