"""The fleet's rows as the residency plan sees them, and what the plan decides written back."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.db.models import QuerySet
from django.utils import timezone

from models_registry.errors import RegistryError
from models_registry.files import inspect_file
from models_registry.footprints import (
    CPU,
    Measured,
    header_of,
    late_bytes,
    mapped_bytes,
    note_footprint,
    options_of,
    placements_of,
)
from models_registry.gguf import GGUFError
from models_registry.models import ModelVersion, Node, Replica
from models_registry.names import path_below
from models_registry.registrations import NO_CLAIM, Claim, claims
from models_registry.residency.facts import NodeView, Placement, ReplicaView, VersionView
from models_registry.residency.lifecycle import CRASH_LOOP
from models_registry.residency.plan import Start

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demand:
    """What requests want of a version: those that wait, and when there was one last.

    Times are in seconds; ``keep_alive_seconds`` is what the last request that named one asked for.
    """

    queued: int = 0
    priority: int = 0
    oldest_wait_seconds: float = 0.0
    urgency_seconds: float = 0.0
    idle_seconds: float = math.inf
    keep_alive_seconds: float | None = None


@dataclass(frozen=True)
class HostFacts:
    """What is seen of the process of a launch."""

    is_alive: bool = False
    is_dead: bool = False
    holds_memory: bool = False
    busy: int = 0
    is_serving: bool = False


# What the options of a row, edited past its form, may do to the arithmetic.
_UNFORESEEABLE = (ValueError, TypeError, ArithmeticError, LookupError)
NO_DEMAND = Demand()
NO_HOST = HostFacts()
NOTHING_FORESEEN: Mapping[str, float] = {}


def version_keys() -> list[str]:
    """Keys of all versions."""
    return [f"{slug}@{label}" for slug, label in _versions().values_list("model__slug", "label")]


def loadable_keys() -> set[str]:
    """Keys of the versions that can be brought in when somebody asks for them: files are there."""
    ready = _versions().filter(file_state=ModelVersion.FileState.READY)
    return {f"{slug}@{label}" for slug, label in ready.values_list("model__slug", "label")}


def node_views(alive: Collection[str]) -> list[NodeView]:
    """The machines that ever showed themselves; ``alive`` names those that do now."""
    return [
        NodeView(node.name, node.budgets, node.max_replicas, node.name in alive)
        for node in Node.objects.filter(seen_at__isnull=False)
    ]


def version_views(
    demand: Mapping[str, Demand],
    alive: Collection[str],
    measured: Measured,
    preloaded: Collection[str],
    default_keep_alive_seconds: float,
    models_dir: Path,
    foreseen: Mapping[str, float] = NOTHING_FORESEEN,
) -> dict[str, VersionView]:
    """Every version that is wanted, asked for, foreseen, or named by a replica, by key.

    Args:
        demand: by version key.
        alive: names of the nodes that can take a replica now.
        measured: footprints.
        preloaded: keys of versions that the settings want in memory.
        default_keep_alive_seconds: where neither version nor request says; below 0 for ever.
        models_dir: where the files are.
        foreseen: versions expected to be asked for, with the seconds since that was foreseen.
    """
    nodes = [node for node in Node.objects.filter(name__in=alive) if node.seen_at]
    wanted = {key for key, found in demand.items() if found.queued} | {*preloaded, *foreseen}
    with_rows = set(Replica.objects.values_list("version_id", flat=True))
    registered = claims()
    views = {}
    for version in _versions():
        _complete(version, models_dir)
        key = version.key
        claim = registered.get(version.pk, NO_CLAIM)
        standing = version.pinned or version.preload_workers or claim.preload_workers
        if not (standing or version.pk in with_rows or key in wanted):
            continue
        fault = ""
        places: tuple[Placement, ...] = ()
        try:
            places = _places(version, nodes, measured, claim.device)
        except _UNFORESEEABLE as error:
            # One odd row must not keep the others from being served.
            logger.debug("%s cannot be placed", key, exc_info=True)
            fault = f"What {key} needs cannot be foreseen ({error}). Check its runtime options."
        views[key] = _version_view(
            version,
            demand.get(key, NO_DEMAND),
            places,
            key in preloaded,
            default_keep_alive_seconds,
            claim,
            fault,
            foreseen.get(key),
        )
    return views


def replicas() -> QuerySet[Replica]:
    """All replicas with what their views need."""
    return Replica.objects.select_related("version__model", "version__draft_model__model", "node")


def replica_view(replica: Replica, host: HostFacts, places: Iterable[Placement]) -> ReplicaView:
    """A replica as the plan sees it.

    Args:
        replica: its row.
        host: its process.
        places: the placements of its version, for one that was started before what it needs was
            written down.
    """
    crash_loop = replica.crashes >= CRASH_LOOP and replica.state == Replica.State.FAILED
    own = (place.needs for place in places if place.node == replica.node.name)
    return ReplicaView(
        id=replica.pk,
        version=replica.version.key,
        node=replica.node.name,
        device=replica.placed_on,
        needs=replica.needed_bytes or next(own, {}),
        wanted=replica.desired == Replica.Desired.RESIDENT,
        on_demand=replica.on_demand,
        state=replica.state,
        state_age_seconds=(timezone.now() - replica.state_since).total_seconds(),
        is_alive=host.is_alive,
        is_dead=host.is_dead,
        holds_memory=host.holds_memory,
        crashes=replica.crashes,
        # The lines after the first are the end of a log, and not for those who ask.
        failure=replica.reason.partition("\n")[0] if replica.load_failed or crash_loop else "",
        load_failed=replica.load_failed,
        file_ready=replica.version.file_state == ModelVersion.FileState.READY,
        busy=host.busy,
        is_serving=host.is_serving,
    )


def row_for(start: Start, holding: Collection[int] = ()) -> Replica | None:
    """The row in which a replica is to be started, wanted from now on.

    Args:
        start: what the plan has decided.
        holding: ids of replicas whose process still runs. With a new launch in such a row the
            memory of the old one would be forgotten, so it is left as it is.

    Returns:
        None when the row, the version or the node was deleted a moment ago.
    """
    if start.replica_id is not None:
        return replicas().filter(pk=start.replica_id).first()
    slug, _, label = start.version.partition("@")
    version = ModelVersion.objects.filter(model__slug=slug, label=label).first()
    node = Node.objects.filter(name=start.node).first()
    if version is None or node is None:
        return None
    at_rest = (
        Replica.objects.filter(
            version=version,
            node=node,
            desired=Replica.Desired.ABSENT,
            state__in=(Replica.State.STOPPED, Replica.State.FAILED),
        )
        .exclude(pk__in=holding)
        .first()
    )
    if at_rest is None:
        at_rest = Replica.objects.create(version=version, node=node)
    Replica.objects.filter(pk=at_rest.pk).update(
        desired=Replica.Desired.RESIDENT, on_demand=start.on_demand
    )
    return replicas().filter(pk=at_rest.pk).first()


def retire(replica_id: int, reason: str) -> None:
    """Want a replica out of memory, because the plan says so and no person."""
    Replica.objects.filter(pk=replica_id).update(desired=Replica.Desired.ABSENT, reason=reason)


def explain(reasons: Mapping[str, str]) -> None:
    """Tell with each replica that waits for room why it does, by version key."""
    waiting = replicas().filter(desired=Replica.Desired.RESIDENT, state=Replica.State.STOPPED)
    for replica in waiting:
        reason = reasons.get(replica.version.key, "")
        if reason != replica.reason:
            Replica.objects.filter(pk=replica.pk).update(reason=reason)


def measure(replica: Replica, private_bytes: int) -> None:
    """Correct what is set aside for a replica on the CPU by what its process holds.

    After the load the buffers of a step are not touched yet, so what is foreseen for them is
    added; a process that holds more is believed. What is on a GPU stays as foreseen, and so does
    what was loaded with other options than the version has by now.

    Args:
        replica: a ready one.
        private_bytes: of its process, less what that held before the load.
    """
    if set(replica.needed_bytes) != {CPU}:
        return
    version, node = replica.version, replica.node
    options = options_of(version, replica.placed_on, node.cpu_features)
    if options != replica.loaded_options:
        return
    loaded = private_bytes if replica.resident_bytes is None else replica.resident_bytes
    holds = max(loaded + late_bytes(version, node), private_bytes)
    needed, known = holds + mapped_bytes(version, node), replica.needed_bytes[CPU]
    # Changed by less than a hundredth, it is not worth a write each second.
    if abs(needed - known) > needed * 0.01:
        Replica.objects.filter(pk=replica.pk).update(needed_bytes={CPU: needed})
        note_footprint(version, options, holds)


def _versions() -> QuerySet[ModelVersion]:
    return ModelVersion.objects.select_related("model", "draft_model__model")


def _version_view(
    version: ModelVersion,
    demand: Demand,
    places: tuple[Placement, ...],
    is_preloaded: bool,
    default_keep_alive_seconds: float,
    claim: Claim,
    fault: str,
    foreseen_seconds: float | None,
) -> VersionView:
    unusable = fault
    if version.file_state != ModelVersion.FileState.READY:
        unusable = (
            f"The file of {version.key} is {version.file_state}. Fetch it first: "
            f"python manage.py fetch_model {version.key}"
        )
    elif version.file_error:
        unusable = version.file_error
    return VersionView(
        key=version.key,
        placements=places,
        is_embedding=version.model.type == "embedding",
        pinned=version.pinned,
        preload_workers=max(version.preload_workers, int(is_preloaded)),
        registered_workers=claim.preload_workers,
        foreseen=foreseen_seconds is not None and demand.idle_seconds > foreseen_seconds,
        keep_alive_seconds=_keep_alive_seconds(version, demand, default_keep_alive_seconds, claim),
        queued=demand.queued,
        priority=demand.priority,
        oldest_wait_seconds=demand.oldest_wait_seconds,
        urgency_seconds=demand.urgency_seconds,
        idle_seconds=demand.idle_seconds,
        unusable=unusable,
    )


def _keep_alive_seconds(
    version: ModelVersion, demand: Demand, default_seconds: float, claim: Claim
) -> float:
    """How long a version stays without work; infinity until its room is needed.

    What is registered stays; what was there only for registrations that were released goes.
    """
    if claim.references:
        return math.inf
    if claim.is_left_over(timezone.now(), demand.idle_seconds):
        return 0.0
    keep_alive = demand.keep_alive_seconds
    is_embedding = version.model.type == "embedding"
    if keep_alive is None or is_embedding:
        keep_alive = version.keep_alive_seconds
    if keep_alive is None:
        # Embedding models stay beside whatever comes and goes, unless somebody says otherwise.
        keep_alive = -1 if is_embedding else default_seconds
    return math.inf if keep_alive < 0 else keep_alive


def _places(
    version: ModelVersion,
    nodes: Iterable[Node],
    measured: Measured,
    wished_device: str,
) -> tuple[Placement, ...]:
    """The ways to place a version, nodes with the device that registrations wish for first."""
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


def _complete(version: ModelVersion, models_dir: Path) -> None:
    """Fill in what an older release did not keep of a version and its draft model."""
    for part in filter(None, (version, version.draft_model)):
        header = header_of(part)
        if part.file_state != ModelVersion.FileState.READY:
            continue
        if header is not None and part.kv_bytes_per_token is not None:
            continue
        try:
            path = path_below(models_dir, part.file_name)
            if path.is_file():
                inspect_file(part, path)
            elif header is None:
                # Not kept: the file may well be on the disks of the machines that load it.
                part.file_error = f"{path} was not read yet, and is not on this machine."
        except (GGUFError, RegistryError) as error:
            logger.error("%s: %s", part, error)
            part.file_error, part.file_state = str(error), ModelVersion.FileState.FAILED
            part.save(update_fields=["file_error", "file_state"])
