"""The fleet as the residency plan sees it: nodes, the versions that are wanted, replicas."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.utils import timezone

from models_registry.errors import RegistryError
from models_registry.files.inspection import inspect_file
from models_registry.fleet.census import Census
from models_registry.fleet.footprints import (
    lacks_facts,
    measured_footprints,
    placements_among,
)
from models_registry.fleet.registrations import NO_CLAIM, Claim
from models_registry.gguf.kept import kept_header
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion, Node, Replica
from models_registry.plan.facts import NodeView, Placement, ReplicaView, VersionView
from models_registry.plan.lifecycle import CRASH_LOOP
from models_registry.rules.names import path_below

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
    has_served: bool = False


@dataclass(frozen=True)
class Wishes:
    """Who wants which versions at one moment, ``at``, by the database's clock.

    ``demand`` is of requests, by version key; ``preloaded`` are the keys that the settings name;
    ``foreseen`` those expected to be asked for, with the seconds since that was foreseen;
    ``claims`` are of registrations, by version id.
    """

    demand: Mapping[str, Demand] = field(default_factory=dict)
    preloaded: Collection[str] = ()
    foreseen: Mapping[str, float] = field(default_factory=dict)
    claims: Mapping[int, Claim] = field(default_factory=dict)
    at: datetime = field(default_factory=timezone.now)


# What the options of a row, edited past its form, may do to the arithmetic.
_UNFORESEEABLE = (ValueError, TypeError, ArithmeticError, LookupError)
NO_DEMAND = Demand()
NO_HOST = HostFacts()


def node_views(
    census: Census, alive: Collection[str], silence_seconds: Mapping[str, float]
) -> list[NodeView]:
    """The machines that ever showed themselves.

    Args:
        census: all there are.
        alive: names of those that show themselves now.
        silence_seconds: since the others were last seen, by name.
    """
    return [
        NodeView(
            node.name,
            node.budgets,
            node.max_replicas,
            node.name in alive,
            silence_seconds.get(node.name, math.inf),
        )
        for node in census.nodes
    ]


def wanted_versions(census: Census, wishes: Wishes, models_dir: Path) -> dict[int, ModelVersion]:
    """Rows of the versions that are wanted, asked for, foreseen, or named by a replica, by id.

    The replicas of the census are given theirs. What an older release did not keep of a version is
    read from its file where that is on this machine, whether somebody wants it or not.

    Args:
        census: all there are.
        wishes: who wants what.
        models_dir: where the files are.
    """
    asked = {key for key, found in wishes.demand.items() if found.queued}
    asked |= {*wishes.preloaded, *wishes.foreseen}
    named = {replica.version_id for replica in census.replicas}
    wanted = {
        version.id
        for version in census.versions
        if version.is_standing
        or version.id in named
        or version.key in asked
        or wishes.claims.get(version.id, NO_CLAIM).preload_workers
    }
    # The rows of those whose file is elsewhere are not read for nothing at each look.
    incomplete = {
        version.id
        for version in census.versions
        if version.lacks_facts and (models_dir / version.file_name).is_file()
    }
    rows = {version.pk: version for version in _versions(wanted | incomplete)}
    for version in rows.values():
        _complete(version, models_dir)
    for replica in census.replicas:
        if replica.version_id in rows:
            replica.version = rows[replica.version_id]
    return {id_: version for id_, version in rows.items() if id_ in wanted}


def version_views(
    versions: Mapping[int, ModelVersion],
    wishes: Wishes,
    nodes: Iterable[Node],
    default_keep_alive_seconds: float,
) -> dict[str, VersionView]:
    """Versions as the plan sees them, by key.

    Args:
        versions: see ``wanted_versions``.
        wishes: who wants what.
        nodes: those that can take a replica, now or in a moment.
        default_keep_alive_seconds: where neither version nor request says; below 0 for ever.
    """
    nodes = list(nodes)
    measured = measured_footprints(versions)
    views = {}
    for version in versions.values():
        key = version.key
        claim = wishes.claims.get(version.pk, NO_CLAIM)
        fault = ""
        places: tuple[Placement, ...] = ()
        try:
            places = placements_among(nodes, version, measured, claim.device)
        except _UNFORESEEABLE as error:
            # One odd row must not keep the others from being served.
            logger.debug("%s cannot be placed", key, exc_info=True)
            fault = f"What {key} needs cannot be foreseen ({error}). Check its runtime options."
        views[key] = _version_view(
            version,
            wishes.demand.get(key, NO_DEMAND),
            places,
            key in wishes.preloaded,
            default_keep_alive_seconds,
            claim,
            fault,
            wishes.foreseen.get(key),
            wishes.at,
        )
    return views


def replica_view(
    replica: Replica, host: HostFacts, places: Iterable[Placement], now: datetime
) -> ReplicaView:
    """A replica as the plan sees it.

    Args:
        replica: its row, with version and node at hand.
        host: its process.
        places: the placements of its version, for one that was started before what it needs was
            written down.
        now: the time by the database's clock.
    """
    crash_loop = replica.crashes >= CRASH_LOOP and replica.state == Replica.State.FAILED
    own = (place.needs for place in places if place.node == replica.node.name)
    return ReplicaView(
        id=replica.pk,
        version=replica.version.key,
        node=replica.node.name,
        needs=replica.needed_bytes or next(own, {}),
        wanted=replica.desired == Replica.Desired.RESIDENT,
        on_demand=replica.on_demand,
        state=replica.state,
        state_age_seconds=(now - replica.state_since).total_seconds(),
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
        has_served=host.has_served,
    )


def _versions(ids: Collection[int]) -> Iterable[ModelVersion]:
    """Rows with what planning needs of them; few have a draft model, so it is not joined."""
    rows = ModelVersion.objects.filter(pk__in=ids).order_by("pk")
    return rows.select_related("model").prefetch_related("draft_model__model")


def _version_view(
    version: ModelVersion,
    demand: Demand,
    places: tuple[Placement, ...],
    is_preloaded: bool,
    default_keep_alive_seconds: float,
    claim: Claim,
    fault: str,
    foreseen_seconds: float | None,
    now: datetime,
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
        is_registered=claim.references > 0,
        foreseen=foreseen_seconds is not None and demand.idle_seconds > foreseen_seconds,
        keep_alive_seconds=_keep_alive_seconds(
            version, demand, default_keep_alive_seconds, claim, now
        ),
        queued=demand.queued,
        priority=demand.priority,
        oldest_wait_seconds=demand.oldest_wait_seconds,
        urgency_seconds=demand.urgency_seconds,
        idle_seconds=demand.idle_seconds,
        unusable=unusable,
    )


def _keep_alive_seconds(
    version: ModelVersion, demand: Demand, default_seconds: float, claim: Claim, now: datetime
) -> float:
    """How long a version stays without work; infinity until its room is needed.

    What is registered stays; what was there only for registrations that were released goes.
    """
    if claim.references:
        return math.inf
    if claim.is_left_over(now, demand.idle_seconds):
        return 0.0
    keep_alive = demand.keep_alive_seconds
    is_embedding = version.model.type == "embedding"
    if keep_alive is None or is_embedding:
        keep_alive = version.keep_alive_seconds
    if keep_alive is None:
        # Embedding models stay beside whatever comes and goes, unless somebody says otherwise.
        keep_alive = -1 if is_embedding else default_seconds
    return math.inf if keep_alive < 0 else keep_alive


def _complete(version: ModelVersion, models_dir: Path) -> None:
    """Fill in what an older release did not keep of a version and its draft model."""
    for part in filter(None, (version, version.draft_model)):
        if part.file_state != ModelVersion.FileState.READY or not lacks_facts(part):
            continue
        try:
            path = path_below(models_dir, part.file_name)
            if path.is_file():
                inspect_file(part, path)
            elif kept_header(part.header) is None:
                # Not kept: the file may well be on the disks of the machines that load it.
                part.file_error = f"{path} was not read yet, and is not on this machine."
        except (GGUFError, RegistryError) as error:
            logger.error("%s: %s", part, error)
            part.file_error, part.file_state = str(error), ModelVersion.FileState.FAILED
            # Not saved: it may have been deleted meanwhile.
            rows = ModelVersion.objects.filter(pk=part.pk)
            rows.update(file_error=part.file_error, file_state=part.file_state)
