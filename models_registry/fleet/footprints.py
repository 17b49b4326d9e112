"""Memory that a version takes on a node: as measured there before, else as estimated."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from django.utils import timezone

from models_registry.fleet.memory import CPU, MemoryEstimate, device_bytes, estimate_bytes
from models_registry.fleet.repacking import COPYING_FEATURES
from models_registry.gguf.kept import kept_header
from models_registry.models import Footprint, ModelVersion, Node
from models_registry.plan.facts import Placement

MARGIN = 1.05
"""An estimate is multiplied by this, since the replica may turn out a little larger."""
_CONFIRMED_EVERY: Final = timedelta(hours=1)
_BELIEVED_FOR: Final = timedelta(days=1)
_SAME: Final = 0.01
_SHORT_KEY: Final = 50
Measured = Mapping[tuple[int, str], int]
"""Private bytes by version id and options."""


def estimate_of(
    version: ModelVersion, cpu_features: Sequence[str], options: ModelVersion | None = None
) -> MemoryEstimate | None:
    """The estimate of a version with the ``options`` of another, if any; None if not read yet."""
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
    """The file and the options that a footprint was measured with, as its row names them."""
    features = " ".join(sorted(COPYING_FEATURES.intersection(cpu_features)))
    layers = "" if version.layers_on_gpu < 0 else f" {version.layers_on_gpu} layers"
    draft = f" draft {_file_of(version.usable_draft)}" if version.usable_draft else ""
    return (
        f"{_file_of(version)} {device} {version.kv_cells} cells {version.max_sequences} sequences "
        f"{version.cache_type_k} {version.cache_type_v} flash {version.flash_attention}{layers}"
        f"{draft} [{features}]"
    )


def _file_of(version: ModelVersion) -> str:
    """The content of its file, so short that two of them fit into ``Footprint.options``."""
    if version.sha256 or len(version.key) <= _SHORT_KEY:
        return version.sha256[:12] or version.key
    return hashlib.sha256(version.key.encode()).hexdigest()[:12]


def measured_footprints(versions: Collection[int] | None = None) -> dict[tuple[int, str], int]:
    rows = Footprint.objects.order_by()
    if versions is not None:
        rows = rows.filter(version__in=versions)
    found = rows.values_list("version_id", "options", "private_bytes")
    return {(version_id, options): count for version_id, options, count in found}


def footprints_of(versions: Collection[int]) -> dict[tuple[int, str], Footprint]:
    """The rows of ``measured_footprints``."""
    rows = Footprint.objects.filter(version__in=versions)
    return {(row.version_id, row.options): row for row in rows}


def is_news(known: Footprint | None, private_bytes: int) -> bool:
    """Whether a measurement has to be written, by the rules of ``note_footprint``."""
    if known is None or private_bytes > known.private_bytes * (1 + _SAME):
        return True
    age = timezone.now() - known.measured_at
    is_same = private_bytes >= known.private_bytes * (1 - _SAME)
    return age > _BELIEVED_FOR or (is_same and age > _CONFIRMED_EVERY)


def note_footprint(version: ModelVersion, options: str, private_bytes: int) -> None:
    """Remember the measured bytes of a replica that was loaded with ``options``.

    More counts at once; the same confirms it, once an hour; less counts when the last confirmation
    is a day old, since a process grows as it works.
    """
    row, created = Footprint.objects.get_or_create(
        version=version, options=options, defaults={"private_bytes": private_bytes}
    )
    if created:
        # Rows of another file, or named as an older release did, will match nothing again.
        others = version.footprints.exclude(pk=row.pk)
        others.exclude(options__startswith=f"{_file_of(version)} ").delete()
    elif is_news(row, private_bytes):
        if timezone.now() - row.measured_at > _BELIEVED_FOR:
            row.private_bytes = 0
        row.private_bytes = max(private_bytes, row.private_bytes)
        row.save()  # sets measured_at to now


def placements_among(
    nodes: Iterable[Node], version: ModelVersion, measured: Measured, wished_device: str
) -> tuple[Placement, ...]:
    """The ways to put a version on any of some nodes, the best first; none without its file.

    Nodes that have the wished device (``cuda``, ``cuda:1``) come first and are told to use it,
    unless the version names a device itself.
    """
    if version.file_state != ModelVersion.FileState.READY:
        return ()
    with_wish: list[Placement] = []
    without: list[Placement] = []
    for node in nodes:
        names = {device["name"] for device in node.devices}
        kinds = {name.partition(":")[0] for name in names}
        if version.device == "auto" and wished_device in names | kinds:
            with_wish += placements_of(version, node, measured, wished_device)
        else:
            without += placements_of(version, node, measured)
    return (*with_wish, *without)


def placements_of(
    version: ModelVersion, node: Node, measured: Measured, device: str = ""
) -> tuple[Placement, ...]:
    """The ways to put a version on a node, the best first; none until its file was read.

    A model that fits on one GPU is fastest there, so one GPU is tried before several. A
    ``device`` of "" is the version's own.
    """
    return tuple(_placements(version, node, measured, device or version.device))


def _device_options(
    version: ModelVersion, node: Node, wanted: str
) -> list[tuple[str, Mapping[str, float]]]:
    """Devices as the host is told them, each with the shares of GPUs that it means."""
    kind, _, number = wanted.partition(":")
    sizes = {
        device["name"]: float(device["memory_bytes"])
        for device in node.devices
        if device["name"] != CPU and kind in ("auto", device["name"].partition(":")[0])
    }
    if wanted == CPU or version.layers_on_gpu == 0 or not sizes:
        return [(wanted, {})]
    if number:
        return [(wanted, {wanted: 1.0} if wanted in sizes else {})]
    weights = dict(zip(sizes, version.tensor_split, strict=False)) if version.tensor_split else {}
    if len(weights) != len(sizes) or not any(weights.values()):
        weights = sizes
    whole = sum(weights.values())
    # A GPU may not say how much memory it has.
    together = {
        name: weight / whole if whole else 1 / len(weights) for name, weight in weights.items()
    }
    if version.tensor_split or len(sizes) == 1:
        return [(wanted, together)]
    return [(name, {name: 1.0}) for name in sizes] + [(wanted, together)]


def _placements(
    version: ModelVersion, node: Node, measured: Measured, wanted: str
) -> Iterator[Placement]:
    for device, shares in _device_options(version, node, wanted):
        needs = _needs(version, node, shares)
        if needs is None:
            return
        known = measured.get((version.pk, options_of(version, device, node.cpu_features)))
        if known is not None and not shares:
            needs = {CPU: known + mapped_bytes(version, node)}
        else:
            needs = {name: round(count * MARGIN) for name, count in needs.items()}
        yield Placement(node.name, device, needs)


def _needs(version: ModelVersion, node: Node, shares: Mapping[str, float]) -> dict[str, int] | None:
    together: dict[str, int] = {}
    features = () if shares else node.cpu_features
    for part in filter(None, (version, version.usable_draft)):
        header, estimate = kept_header(part.header), estimate_of(part, features, version)
        if header is None or estimate is None:
            return None
        for device, count in device_bytes(header, estimate, version.layers_on_gpu, shares).items():
            together[device] = together.get(device, 0) + count
    return together


def mapped_bytes(version: ModelVersion, node: Node) -> int:
    return sum(estimate.mapped_bytes for estimate in _parts(version, node))


def late_bytes(version: ModelVersion, node: Node) -> int:
    return sum(estimate.late_bytes for estimate in _parts(version, node))


def _parts(version: ModelVersion, node: Node) -> list[MemoryEstimate]:
    """The estimates of a version and of its draft model, as far as their files were read."""
    parts = filter(None, (version, version.usable_draft))
    found = (estimate_of(part, node.cpu_features, version) for part in parts)
    return [estimate for estimate in found if estimate is not None]
