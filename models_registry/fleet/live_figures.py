"""Live figures of hosts and queues, handed in by whoever can see them.

They change many times a second and are no rows of the registry. The app that serves requests
registers a source for them when it starts; without one there are none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HostFigures:
    """What one host does at the moment.

    ``running`` and ``waiting`` count its sequences, ``tokens_per_second`` those it generates of
    all of them together.
    """

    running: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class LiveFigures:
    """All figures of one moment: of hosts by launch id, of queues by version key.

    ``alive_nodes`` names the machines whose cluster takes tasks. ``fault`` says why figures are
    missing; "" when none are.
    """

    hosts: Mapping[str, HostFigures] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)
    alive_nodes: frozenset[str] = frozenset()
    fault: str = ""


@dataclass(frozen=True)
class Subjects:
    """What figures are asked for."""

    launch_ids: Sequence[str]
    version_keys: Sequence[str]
    nodes: Sequence[str]


FigureSource = Callable[[Subjects], LiveFigures]
"""Reads the figures; never raises for a server that is away, but says so in ``fault``."""

_sources: list[FigureSource] = []


def register_figures(source: FigureSource) -> None:
    """Have ``read_figures`` ask ``source``, in place of the one before."""
    _sources[:] = [source]


def read_figures(subjects: Subjects) -> LiveFigures:
    """The figures of now."""
    if not _sources:
        return LiveFigures(fault="Nothing in this process knows the figures of the hosts.")
    return _sources[0](subjects)
