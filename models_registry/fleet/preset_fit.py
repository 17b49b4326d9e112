"""Whether the members of presets fit into the memory of the nodes there are, with numbers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from django.db.models import Q

from models_registry.fleet.footprints import measured_footprints, options_of, placements_of
from models_registry.fleet.memory import CPU
from models_registry.models import ModelVersion, Node, Preset, Replica
from models_registry.plan.fitting import Fit, fit

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

    ``places`` is how many hosts the node runs at most, each for one member. ``unknown`` are members
    of which not even the size of the file is known. ``missing`` are members that name a model
    without a default version.
    """

    node: str
    members: tuple[Need, ...]
    devices: tuple[DeviceFit, ...]
    places: int
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``fits``, ``takes turns``, ``too large`` or ``unknown``."""
        if self.never:
            return "too large"
        if self.unknown or self.missing or not self.devices:
            return "unknown"
        return "takes turns" if self.is_crowded else "fits"

    @property
    def never(self) -> frozenset[str]:
        """Members that are too large even alone."""
        return frozenset(key for one in self.devices for key in one.fit.never)

    @property
    def is_crowded(self) -> bool:
        """Whether those that are known do not fit at once."""
        return len(self.members) > self.places or any(one.fit.missing_bytes for one in self.devices)

    @property
    def sentences(self) -> list[str]:
        """For people: each device, the hosts where they are too few, and what is not known."""
        rest = ", without those that are not known" if self.unknown or self.missing else ""
        found = [f"{one.device}{rest}: {one.fit}" for one in self.devices]
        if len(self.members) > self.places:
            found.append(
                f"{self.node} runs at most {self.places} hosts (INFERENCE_MAX_REPLICAS) for "
                f"{len(self.members)} models."
            )
        if self.unknown:
            found.append(f"Not known before their files are here: {', '.join(self.unknown)}.")
        if self.missing:
            found.append(f"Without a default version: {', '.join(self.missing)}.")
        return found

    def out_of_turn(self, present: Collection[str]) -> frozenset[str]:
        """Members that cannot come beside those in memory, but could come alone.

        Args:
            present: keys of the versions in memory.
        """
        if not self.is_crowded:
            return frozenset()
        here = [need for need in self.members if need.version_key in present]
        free = {
            one.device: one.fit.budget_bytes - sum(need.needs.get(one.device, 0) for need in here)
            for one in self.devices
        }
        return frozenset(
            need.version_key
            for need in self.members
            if need.version_key not in present
            and (
                len(here) >= self.places
                or any(count > free[device] for device, count in need.needs.items())
            )
        ).difference(self.never)


_ORDER = ("fits", "takes turns", "unknown", "too large")


class FitReport:
    """Answers for any number of presets from one look at nodes and footprints."""

    def __init__(self, nodes: Iterable[Node] | None = None) -> None:
        seen = Node.objects.filter(seen_at__isnull=False) if nodes is None else nodes
        self._nodes = list(seen)
        self._measured = measured_footprints()
        self._known: dict[tuple[int, int], list[Need]] = {}

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
        return [self.on(node, versions, tuple(dict.fromkeys(missing))) for node in self._nodes]

    def best(self, preset: Preset) -> str:
        """The most favourable verdict of all nodes; ``no node`` where there is none."""
        verdicts = {one.verdict for one in self.of(preset)}
        return next((verdict for verdict in _ORDER if verdict in verdicts), "no node")

    def on(
        self, node: Node, versions: Iterable[ModelVersion], missing: tuple[str, ...] = ()
    ) -> NodeFit:
        """Versions on one node.

        Args:
            node: where.
            versions: with their models and draft models at hand.
            missing: members that have no version.
        """
        known: dict[str, Need] = {}
        unknown: list[str] = []
        for version in {version.pk: version for version in versions}.values():
            options = self._needs(version, node)
            if options:
                known[version.key] = _choose(options, known.values(), node.budgets)
            else:
                unknown.append(version.key)
        devices = dict.fromkeys(name for need in known.values() for name in need.needs)
        return NodeFit(
            node=node.name,
            members=tuple(known.values()),
            devices=tuple(
                DeviceFit(name, _fit_on(name, known.values(), node.budgets.get(name, 0)))
                for name in devices
            ),
            places=node.max_replicas,
            unknown=tuple(dict.fromkeys(unknown)),
            missing=missing,
        )

    def _needs(self, version: ModelVersion, node: Node) -> list[Need]:
        place = (version.pk, node.pk)
        if place not in self._known:
            self._known[place] = self._look_up(version, node)
        return self._known[place]

    def _look_up(self, version: ModelVersion, node: Node) -> list[Need]:
        """What it takes in each place that it can have, the best first; empty if nobody knows."""
        found = []
        for place in placements_of(version, node, self._measured):
            options = options_of(version, place.device, node.cpu_features)
            is_measured = (version.pk, options) in self._measured
            basis: Basis = "measured" if is_measured else "foreseen"
            found.append(Need(version.key, dict(place.needs), basis))
        if found:
            return found
        if version.documented_memory_bytes:
            return [Need(version.key, {CPU: version.documented_memory_bytes}, "published")]
        if version.size_bytes:
            return [Need(version.key, {CPU: version.size_bytes}, "file")]
        return []


def _choose(options: Sequence[Need], taken: Iterable[Need], budgets: Mapping[str, int]) -> Need:
    """The first place with room beside ``taken``, else the first with room at all, else the first.

    Args:
        options: places for one version, the best first.
        taken: the places of others.
        budgets: bytes by device.
    """
    used: dict[str, int] = {}
    for other in taken:
        for device, count in other.needs.items():
            used[device] = used.get(device, 0) + count

    def has_room(need: Need, held: Mapping[str, int]) -> bool:
        return all(
            held.get(device, 0) + count <= budgets.get(device, 0)
            for device, count in need.needs.items()
        )

    beside = (need for need in options if has_room(need, used))
    alone = (need for need in options if has_room(need, {}))
    return next(beside, None) or next(alone, None) or options[0]


def crowded_nodes(configured: Iterable[ModelVersion] = (), node_name: str = "") -> list[NodeFit]:
    """The nodes that cannot hold at once what is to be there whether anybody asks or not.

    Args:
        configured: what the settings want besides, with models and draft models at hand.
        node_name: where they want it.
    """
    standing = Replica.objects.filter(
        Q(on_demand=False) | Q(version__pinned=True) | Q(version__preload_workers__gt=0),
        desired=Replica.Desired.RESIDENT,
    ).select_related("node", "version__model", "version__draft_model__model")
    by_node: dict[Node, dict[int, ModelVersion]] = {}
    for node in Node.objects.filter(name=node_name):
        by_node[node] = {version.pk: version for version in configured}
    for replica in standing:
        by_node.setdefault(replica.node, {})[replica.version_id] = replica.version
    report = FitReport(by_node)
    fits = [report.on(node, versions.values()) for node, versions in by_node.items()]
    return [fit for fit in fits if fit.is_crowded]


def _fit_on(device: str, needs: Iterable[Need], budget_bytes: int) -> Fit:
    own = {need.version_key: need.needs[device] for need in needs if device in need.needs}
    return fit(list(own), own, budget_bytes)


def _default_of(versions: Iterable[ModelVersion]) -> ModelVersion | None:
    return next((version for version in versions if version.is_default), None)
