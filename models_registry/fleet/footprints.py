"""What a version takes on a node: as measured there before, else as foreseen."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.utils import timezone

from models_registry.fleet.memory import MemoryEstimate, device_bytes, estimate_bytes
from models_registry.fleet.repacking import COPYING_FEATURES
from models_registry.gguf.kept import TEMPLATE_SHA256, kept_header
from models_registry.models import Footprint, ModelVersion, Node
from models_registry.plan.facts import Placement

CPU = "cpu"
MARGIN = 1.05
"""What is set aside for what was only foreseen, which may turn out a little larger."""
_CONFIRMED_EVERY: Final = timedelta(hours=1)
_BELIEVED_FOR: Final = timedelta(days=1)
_SAME: Final = 0.01
_SHORT_KEY: Final = 50
Measured = Mapping[tuple[int, str], int]
"""Private bytes by version and options."""


def lacks_facts(version: ModelVersion) -> bool:
    """Whether a version's row has not all that this release keeps of a header; see the census."""
    is_whole = kept_header(version.header) is not None and TEMPLATE_SHA256 in (version.header or {})
    return not is_whole or version.kv_bytes_per_token is None


def estimate_of(
    version: ModelVersion, cpu_features: Sequence[str], options: ModelVersion | None = None
) -> MemoryEstimate | None:
    """What a version is foreseen to take; None until its file was read.

    Args:
        version: whose file.
        cpu_features: of the node.
        options: the version whose options count, for a draft model; its own without.
    """
    header = kept_header(version.header)
    if header is None:
        return None
    set_by = options or version
    return estimate_bytes(
        header,
        set_by.kv_cells,
        set_by.max_sequences,
        cache_type_k=set_by.cache_type_k,
        cache_type_v=set_by.cache_type_v,
        cpu_features=cpu_features,
    )


def options_of(version: ModelVersion, device: str, cpu_features: Iterable[str]) -> str:
    """The file and the options that a footprint was measured with, as its row names them.

    Args:
        version: whose file and options.
        device: as the host is told it.
        cpu_features: of the node; those that decide which weights are copied count.
    """
    features = " ".join(sorted(COPYING_FEATURES.intersection(cpu_features)))
    layers = "" if version.layers_on_gpu < 0 else f" {version.layers_on_gpu} layers"
    draft = f" draft {_file_of(version.usable_draft)}" if version.usable_draft else ""
    return (
        f"{_file_of(version)} {device} {version.kv_cells} cells {version.max_sequences} sequences "
        f"{version.cache_type_k} {version.cache_type_v} flash {version.flash_attention}{layers}"
        f"{draft} [{features}]"
    )


def _file_of(version: ModelVersion) -> str:
    """The content of its file, as far as that is known; a version's file may be replaced.

    Two of them, of a version and its draft model, have room in ``Footprint.options``.
    """
    if version.sha256 or len(version.key) <= _SHORT_KEY:
        return version.sha256[:12] or version.key
    return hashlib.sha256(version.key.encode()).hexdigest()[:12]


def measured_footprints(versions: Collection[int] | None = None) -> dict[tuple[int, str], int]:
    """All footprints there are, or those of some versions, by their ids."""
    rows = Footprint.objects.order_by()
    if versions is not None:
        rows = rows.filter(version__in=versions)
    found = rows.values_list("version_id", "options", "private_bytes")
    return {(version_id, options): count for version_id, options, count in found}


def footprints_of(versions: Collection[int]) -> dict[tuple[int, str], Footprint]:
    """The rows of the footprints of some versions, by version id and options."""
    rows = Footprint.objects.filter(version__in=versions)
    return {(row.version_id, row.options): row for row in rows}


def is_news(known: Footprint | None, private_bytes: int) -> bool:
    """Whether what a replica holds is worth a write: see ``note_footprint``.

    Args:
        known: what was measured before with its options.
        private_bytes: what its process holds.
    """
    if known is None or private_bytes > known.private_bytes * (1 + _SAME):
        return True
    age = timezone.now() - known.measured_at
    is_same = private_bytes >= known.private_bytes * (1 - _SAME)
    return age > _BELIEVED_FOR or (is_same and age > _CONFIRMED_EVERY)


def note_footprint(version: ModelVersion, options: str, private_bytes: int) -> None:
    """Remember what a replica was measured to take.

    More than before counts at once, and the same confirms it, once an hour. Less counts when what
    is known was last confirmed more than a day ago: a process grows as it works, and right after
    its load holds less than it will.

    Args:
        version: of the replica.
        options: it was loaded with; see ``options_of``.
        private_bytes: what its process holds.
    """
    row, created = Footprint.objects.get_or_create(
        version=version, options=options, defaults={"private_bytes": private_bytes}
    )
    if created:
        # Of another file, or named as an older release did: nothing will match them again.
        others = version.footprints.exclude(pk=row.pk)
        others.exclude(options__startswith=f"{_file_of(version)} ").delete()
    elif is_news(row, private_bytes):
        if timezone.now() - row.measured_at > _BELIEVED_FOR:
            row.private_bytes = 0
        row.private_bytes = max(private_bytes, row.private_bytes)
        row.save()  # measured at this moment


def placements_of(version: ModelVersion, node: Node, measured: Measured) -> tuple[Placement, ...]:
    """The ways to put a version on a node, the best first.

    One GPU is tried before several: a model that fits on one is fastest there. Where no GPU is
    left to choose, it is the CPU.

    Returns:
        Nothing until the version's file was read.
    """
    return tuple(_placements(version, node, measured))


def placements_among(
    nodes: Iterable[Node], version: ModelVersion, measured: Measured, wished_device: str
) -> tuple[Placement, ...]:
    """The ways to put a version on any of some nodes, the best first.

    Args:
        nodes: where.
        version: whose file; nothing where it is not there.
        measured: footprints.
        wished_device: such as ``cuda`` or ``cuda:1``. Nodes that have it come first, and are told
            to use it, where the version does not name a device itself; "" for no wish.
    """
    if version.file_state != ModelVersion.FileState.READY:
        return ()
    own_device = version.device
    with_wish: list[Placement] = []
    without: list[Placement] = []
    for node in nodes:
        has_wish = own_device == "auto" and _has_device(node, wished_device)
        version.device = wished_device if has_wish else own_device
        (with_wish if has_wish else without).extend(placements_of(version, node, measured))
    version.device = own_device
    return (*with_wish, *without)


def _has_device(node: Node, wished: str) -> bool:
    """Whether a node has a device, such as ``cuda:1``, or one of a kind, such as ``cuda``."""
    names = {device["name"] for device in node.devices}
    return wished in names | {name.partition(":")[0] for name in names}


@dataclass(frozen=True)
class _Choice:
    """A device as the host is told it, and the shares of GPUs that it means."""

    device: str
    shares: Mapping[str, float]


def _choices(version: ModelVersion, node: Node) -> list[_Choice]:
    kind, _, number = version.device.partition(":")
    sizes = {
        device["name"]: float(device["memory_bytes"])
        for device in node.devices
        if device["name"] != CPU and kind in ("auto", device["name"].partition(":")[0])
    }
    if version.device == CPU or version.layers_on_gpu == 0 or not sizes:
        return [_Choice(version.device, {})]
    if number:
        known = version.device in sizes
        return [_Choice(version.device, {version.device: 1.0} if known else {})]
    weights = dict(zip(sizes, version.tensor_split, strict=False)) if version.tensor_split else {}
    if len(weights) != len(sizes) or not any(weights.values()):
        weights = sizes
    # A GPU that does not say how much it has is not a reason to fail.
    whole = sum(weights.values())
    together = {
        name: weight / whole if whole else 1 / len(weights) for name, weight in weights.items()
    }
    if version.tensor_split or len(sizes) == 1:
        return [_Choice(version.device, together)]
    return [_Choice(name, {name: 1.0}) for name in sizes] + [_Choice(version.device, together)]


def _placements(version: ModelVersion, node: Node, measured: Measured) -> Iterator[Placement]:
    for choice in _choices(version, node):
        needs = _needs(version, node, choice)
        if needs is None:
            return
        known = measured.get((version.pk, options_of(version, choice.device, node.cpu_features)))
        if known is not None and not choice.shares:
            needs = {CPU: known + mapped_bytes(version, node)}
        else:
            needs = {device: round(count * MARGIN) for device, count in needs.items()}
        yield Placement(node.name, choice.device, needs)


def _needs(version: ModelVersion, node: Node, choice: _Choice) -> dict[str, int] | None:
    """Bytes by device, those of the draft model included."""
    together: dict[str, int] = {}
    features = () if choice.shares else node.cpu_features
    for part in filter(None, (version, version.usable_draft)):
        header, estimate = kept_header(part.header), estimate_of(part, features, version)
        if header is None or estimate is None:
            return None
        needs = device_bytes(header, estimate, version.layers_on_gpu, choice.shares)
        for device, count in needs.items():
            together[device] = together.get(device, 0) + count
    return together


def mapped_bytes(version: ModelVersion, node: Node) -> int:
    """Bytes of weights that a replica on the CPU of a node reads from the file."""
    return sum(estimate.mapped_bytes for estimate in _parts(version, node))


def late_bytes(version: ModelVersion, node: Node) -> int:
    """Bytes of a replica that are not touched before it works."""
    return sum(estimate.late_bytes for estimate in _parts(version, node))


def _parts(version: ModelVersion, node: Node) -> list[MemoryEstimate]:
    """The estimates of a version and of its draft model, as far as their files were read."""
    parts = filter(None, (version, version.usable_draft))
    found = (estimate_of(part, node.cpu_features, version) for part in parts)
    return [estimate for estimate in found if estimate is not None]
