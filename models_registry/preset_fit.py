"""Whether the members of presets fit into the memory of the nodes there are, with numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from models_registry.footprints import CPU, measured_footprints, options_of, placements_of
from models_registry.models import ModelVersion, Node, Preset
from models_registry.residency.fitting import Fit, fit

Basis = Literal["measured", "foreseen", "published", "file"]


@dataclass(frozen=True)
class Need:
    """What a version takes on a node, by device, and where that is known from.

    Before its file is here it is the publisher's number or the size of the file, which both leave
    out the KV cache.
    """

    version_key: str
    needs: dict[str, int]
    basis: Basis


@dataclass(frozen=True)
class DeviceFit:
    """Whether the members fit on one device together."""

    device: str
    fit: Fit


@dataclass(frozen=True)
class NodeFit:
    """Whether the members of a preset fit on a node.

    ``unknown`` are members of which not even the size of the file is known. ``missing`` are members
    that name a model without a default version.
    """

    node: str
    members: tuple[Need, ...]
    devices: tuple[DeviceFit, ...]
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``fits``, ``takes turns``, ``too large`` or ``unknown``."""
        if any(one.fit.never for one in self.devices):
            return "too large"
        if self.unknown or self.missing or not self.devices:
            return "unknown"
        return "takes turns" if any(one.fit.missing_bytes for one in self.devices) else "fits"


_ORDER = ("fits", "takes turns", "unknown", "too large")


class FitReport:
    """Answers for any number of presets from one look at nodes and footprints."""

    def __init__(self, nodes: Iterable[Node] | None = None) -> None:
        seen = Node.objects.filter(seen_at__isnull=False) if nodes is None else nodes
        self._nodes = list(seen)
        self._measured = measured_footprints()
        self._known: dict[tuple[int, int], Need | None] = {}

    def of(self, preset: Preset) -> list[NodeFit]:
        """The preset on each node.

        Args:
            preset: with its members, their versions, models and the models' versions at hand.
        """
        versions: list[ModelVersion] = []
        missing: list[str] = []
        for member in preset.members.all():
            version = member.version or _default_of(member.model.versions.all())
            if version is None:
                missing.append(member.model.slug)
            else:
                versions.append(version)
        return [self._on(node, versions, tuple(dict.fromkeys(missing))) for node in self._nodes]

    def best(self, preset: Preset) -> str:
        """The most favourable verdict of all nodes; ``no node`` where there is none."""
        verdicts = {one.verdict for one in self.of(preset)}
        return next((verdict for verdict in _ORDER if verdict in verdicts), "no node")

    def _on(self, node: Node, versions: list[ModelVersion], missing: tuple[str, ...]) -> NodeFit:
        known: dict[str, Need] = {}
        unknown: list[str] = []
        for version in versions:
            need = self._need(version, node)
            if need is None:
                unknown.append(version.key)
            else:
                known[version.key] = need
        devices = dict.fromkeys(name for need in known.values() for name in need.needs)
        return NodeFit(
            node=node.name,
            members=tuple(known.values()),
            devices=tuple(
                DeviceFit(name, _fit_on(name, known.values(), node.budgets.get(name, 0)))
                for name in devices
            ),
            unknown=tuple(dict.fromkeys(unknown)),
            missing=missing,
        )

    def _need(self, version: ModelVersion, node: Node) -> Need | None:
        place = (version.pk, node.pk)
        if place not in self._known:
            self._known[place] = self._look_up(version, node)
        return self._known[place]

    def _look_up(self, version: ModelVersion, node: Node) -> Need | None:
        places = placements_of(version, node, self._measured)
        if places:
            place = places[0]
            options = options_of(version, place.device, node.cpu_features)
            is_measured = (version.pk, options) in self._measured
            basis: Basis = "measured" if is_measured else "foreseen"
            return Need(version.key, dict(place.needs), basis)
        if version.documented_memory_bytes:
            return Need(version.key, {CPU: version.documented_memory_bytes}, "published")
        if version.size_bytes:
            return Need(version.key, {CPU: version.size_bytes}, "file")
        return None


def _fit_on(device: str, needs: Iterable[Need], budget_bytes: int) -> Fit:
    own = {need.version_key: need.needs[device] for need in needs if device in need.needs}
    return fit(list(own), own, budget_bytes)


def _default_of(versions: Iterable[ModelVersion]) -> ModelVersion | None:
    return next((version for version in versions if version.is_default), None)
