"""Whether the members of presets fit into the memory of the known nodes, with numbers."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from django.db.models import Q

from models_registry.fleet.footprints import measured_footprints, options_of, placements_of
from models_registry.fleet.memory import CPU
from models_registry.models import ModelVersion, Node, Preset, Replica
from models_registry.plan.reasons import format_bytes

Basis = Literal["measured", "foreseen", "published", "file"]


class Verdict(StrEnum):
    """The most favourable first."""

    FITS = "fits"
    TAKES_TURNS = "takes turns"
    UNKNOWN = "unknown"
    TOO_LARGE = "too large"
    NO_NODE = "no node"


@dataclass(frozen=True)
class Need:
    """Memory that a version needs on a node."""

    version_key: str
    needs: dict[str, int]  # bytes by device
    basis: Basis  # what is published, and the size of the file, are without the KV cache


@dataclass(frozen=True)
class DeviceFit:
    device: str
    needed_bytes: int
    budget_bytes: int
    resident: tuple[str, ...]  # keys of versions that fit together
    swapped: tuple[str, ...]  # of versions that take turns beside them
    never: tuple[str, ...]  # of versions that do not fit even alone

    @property
    def missing_bytes(self) -> int:
        return max(0, self.needed_bytes - self.budget_bytes)

    def __str__(self) -> str:
        needed, budget = format_bytes(self.needed_bytes), format_bytes(self.budget_bytes)
        if not self.missing_bytes:
            return f"Fits: it needs {needed} of {budget}."
        parts = [
            f"Does not fit at once: it needs {needed}, {format_bytes(self.missing_bytes)} more "
            f"than the {budget} there are."
        ]
        if self.resident:
            parts.append(f"In memory together: {', '.join(self.resident)}.")
        if self.swapped:
            parts.append(f"Loaded in turn: {', '.join(self.swapped)}.")
        if self.never:
            parts.append(f"Too large even alone: {', '.join(self.never)}.")
        return " ".join(parts)


def fit_device(device: str, needs: Mapping[str, int], budget_bytes: int) -> DeviceFit:
    """See which versions fit on a device, the first ones preferred; ``needs`` is by version key."""
    resident: list[str] = []
    swapped: list[str] = []
    never: list[str] = []
    used = 0
    for key, count in needs.items():
        if count > budget_bytes:
            never.append(key)
        elif used + count <= budget_bytes:
            resident.append(key)
            used += count
        else:
            swapped.append(key)
    needed = sum(needs.values())
    return DeviceFit(device, needed, budget_bytes, tuple(resident), tuple(swapped), tuple(never))


@dataclass(frozen=True)
class NodeFit:
    node: str
    members: tuple[Need, ...]
    devices: tuple[DeviceFit, ...]
    places: int  # hosts that the node runs at most, each for one member
    unknown: tuple[str, ...] = ()  # members of unknown size
    missing: tuple[str, ...] = ()  # models without a default version

    @property
    def verdict(self) -> Verdict:
        if self.never:
            return Verdict.TOO_LARGE
        if self.unknown or self.missing or not self.devices:
            return Verdict.UNKNOWN
        return Verdict.TAKES_TURNS if self.is_crowded else Verdict.FITS

    @property
    def never(self) -> frozenset[str]:
        return frozenset(key for one in self.devices for key in one.never)

    @property
    def is_crowded(self) -> bool:
        """Whether the members of known size do not fit at once."""
        return len(self.members) > self.places or any(one.missing_bytes for one in self.devices)

    @property
    def sentences(self) -> list[str]:
        rest = ", without the unknown members" if self.unknown or self.missing else ""
        found = [f"{one.device}{rest}: {one}" for one in self.devices]
        if len(self.members) > self.places:
            found.append(
                f"{self.node} runs at most {self.places} hosts (INFERENCE_MAX_REPLICAS) for "
                f"{len(self.members)} models."
            )
        if self.unknown:
            found.append(f"Size unknown until their files are here: {', '.join(self.unknown)}.")
        if self.missing:
            found.append(f"Without a default version: {', '.join(self.missing)}.")
        return found

    def out_of_turn(self, present: Collection[str]) -> frozenset[str]:
        """Members that do not fit beside those of ``present``, but would alone."""
        if not self.is_crowded:
            return frozenset()
        here = [need for need in self.members if need.version_key in present]
        free = Counter({one.device: one.budget_bytes for one in self.devices})
        for need in here:
            free.subtract(need.needs)
        return frozenset(
            need.version_key
            for need in self.members
            if need not in here
            and (
                len(here) >= self.places
                or any(count > free[device] for device, count in need.needs.items())
            )
        ).difference(self.never)


class FitReport:
    """Fits of any number of presets, from one look at nodes and footprints."""

    def __init__(self, nodes: Iterable[Node] | None = None) -> None:
        seen = Node.objects.filter(seen_at__isnull=False) if nodes is None else nodes
        self._nodes = list(seen)
        self._measured = measured_footprints()
        self._known: dict[tuple[int, int], list[Need]] = {}

    def fits(self, preset: Preset) -> list[NodeFit]:
        """The fit of a preset on each node; its members and their versions are prefetched."""
        versions: list[ModelVersion] = []
        missing: list[str] = []
        for member in preset.members.all():
            defaults = (one for one in member.model.versions.all() if one.is_default)
            version = member.version or next(defaults, None)
            if version is None:
                missing.append(member.model.slug)
            else:
                versions.append(version)
        return [self.fit_on(node, versions, dict.fromkeys(missing)) for node in self._nodes]

    def best(self, preset: Preset) -> Verdict:
        verdicts = {one.verdict for one in self.fits(preset)}
        return next((verdict for verdict in Verdict if verdict in verdicts), Verdict.NO_NODE)

    def fit_on(
        self, node: Node, versions: Iterable[ModelVersion], missing: Iterable[str] = ()
    ) -> NodeFit:
        """The fit of versions on a node; ``missing`` are models that have none."""
        known: dict[str, Need] = {}
        unknown: list[str] = []
        for version in {version.pk: version for version in versions}.values():
            place = (version.pk, node.pk)
            if place not in self._known:
                self._known[place] = self._look_up(version, node)
            options = self._known[place]
            if options:
                known[version.key] = _choose(options, known.values(), node.budgets)
            else:
                unknown.append(version.key)
        by_device: dict[str, dict[str, int]] = {}
        for need in known.values():
            for device, count in need.needs.items():
                by_device.setdefault(device, {})[need.version_key] = count
        return NodeFit(
            node=node.name,
            members=tuple(known.values()),
            devices=tuple(
                fit_device(device, needs, node.budgets.get(device, 0))
                for device, needs in by_device.items()
            ),
            places=node.max_replicas,
            unknown=tuple(unknown),
            missing=tuple(missing),
        )

    def _look_up(self, version: ModelVersion, node: Node) -> list[Need]:
        """The needs of a version in each possible place, the best first; empty if unknown."""
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


def too_large(preset_name: str) -> dict[str, str]:
    """By node, why no node holds a certain member even alone; empty if there is none such."""
    paths = ("members__model__versions__model", "members__version__model")
    preset = Preset.objects.prefetch_related(*paths).filter(name=preset_name).first()
    fits = FitReport().fits(preset) if preset else []
    if not fits or not frozenset.intersection(*(fit.never for fit in fits)):
        return {}
    return {fit.node: " ".join(fit.sentences) for fit in fits}


def _choose(options: Sequence[Need], taken: Iterable[Need], budgets: Mapping[str, int]) -> Need:
    """The first option with room beside ``taken``, else with room alone, else the first."""
    used = Counter[str]()
    for other in taken:
        used.update(other.needs)

    def has_room(need: Need, held: Counter[str]) -> bool:
        return all(
            held[device] + count <= budgets.get(device, 0) for device, count in need.needs.items()
        )

    beside = (need for need in options if has_room(need, used))
    alone = (need for need in options if has_room(need, Counter()))
    return next(beside, None) or next(alone, None) or options[0]


def crowded_nodes(configured: Iterable[ModelVersion] = (), node_name: str = "") -> list[NodeFit]:
    """The nodes that cannot hold at once all replicas that are wanted whether requests come or not.

    The settings want the ``configured`` versions on the node called ``node_name`` as well.
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
    fits = [report.fit_on(node, versions.values()) for node, versions in by_node.items()]
    return [fit for fit in fits if fit.is_crowded]
