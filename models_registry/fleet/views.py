"""The fleet as the residency plan sees it: nodes, the versions that are wanted, replicas."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from models_registry.fleet.footprints import Measured, measured_footprints, placements_among
from models_registry.fleet.registrations import NO_CLAIM, Claim
from models_registry.fleet.snapshot import Snapshot
from models_registry.gguf.kept import kept_header
from models_registry.models import Model, ModelVersion, Node, Replica
from models_registry.plan.facts import NodeView, Placement, ReplicaView, VersionView
from models_registry.plan.lifecycle import CRASH_LOOP

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Demand:
    """The requests that wait for a version; ``idle_seconds`` since one came or was at work.

    ``phases_until_use`` is as in ``VersionView``.
    """

    queued: int = 0
    priority: int = 0
    oldest_wait_seconds: float = 0.0
    urgency_seconds: float = 0.0
    idle_seconds: float = math.inf
    keep_alive_seconds: float | None = None
    phases_until_use: float = math.inf


@dataclass(frozen=True)
class HostFacts:
    """A launch of a replica. ``is_dead``: its process has ended; ``holds_memory``: it runs.

    ``private_bytes`` it holds now, ``resident_bytes`` it held right after the load, both without
    those from before the load. ``busy`` requests are claimed. ``notice`` is for people.
    """

    is_alive: bool = False
    is_dead: bool = False
    holds_memory: bool = False
    busy: int = 0
    is_serving: bool = False
    has_served: bool = False
    private_bytes: int | None = None
    resident_bytes: int | None = None
    device: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Wishes:
    """The demand, settings, predictions and claims at one moment, ``at``, by the database's clock.

    ``foreseen`` has the seconds since the prediction. ``claims`` go by version id, all else by key.
    """

    demand: Mapping[str, Demand] = field(default_factory=dict)
    preloaded: Collection[str] = ()
    foreseen: Mapping[str, float] = field(default_factory=dict)
    claims: Mapping[int, Claim] = field(default_factory=dict)
    at: datetime = field(default_factory=timezone.now)


def node_views(
    snapshot: Snapshot, alive: Collection[str], silence_seconds: Mapping[str, float]
) -> list[NodeView]:
    """The nodes; ``silence_seconds`` go by name, for those that are not ``alive``."""
    return [
        NodeView(
            node.name,
            node.budgets,
            node.max_replicas,
            is_alive=node.name in alive,
            silence_seconds=silence_seconds.get(node.name, math.inf),
        )
        for node in snapshot.nodes
    ]


def wanted_versions(snapshot: Snapshot, wishes: Wishes) -> dict[int, ModelVersion]:
    """Rows, by id, of the versions that somebody wants or a replica has; sets their ``version``."""
    asked = {key for key, demand in wishes.demand.items() if demand.queued}
    asked |= {*wishes.preloaded, *wishes.foreseen}
    named = {replica.version_id for replica in snapshot.replicas}
    wanted = {
        version.id
        for version in snapshot.versions
        if version.is_standing
        or version.id in named
        or version.key in asked
        or wishes.claims.get(version.id, NO_CLAIM).preload_workers
    }
    rows = ModelVersion.objects.filter(pk__in=wanted).order_by("pk").select_related("model")
    # Few versions have a draft model, so it is not joined.
    versions = {row.pk: row for row in rows.prefetch_related("draft_model__model")}
    for replica in snapshot.replicas:
        if replica.version_id in versions:
            replica.version = versions[replica.version_id]
    return versions


def version_views(
    versions: Mapping[int, ModelVersion],
    wishes: Wishes,
    nodes: Iterable[Node],
    default_keep_alive_seconds: float,
) -> dict[str, VersionView]:
    """Versions as the plan sees them, by key, on nodes that can take a replica soon.

    ``default_keep_alive_seconds`` applies where neither version nor request says; below 0 for ever.
    """
    nodes = list(nodes)
    measured = measured_footprints(versions)
    views = {}
    for version in versions.values():
        demand = wishes.demand.get(version.key, Demand())
        claim = wishes.claims.get(version.pk, NO_CLAIM)
        places, fault = _placements(version, nodes, measured, claim.device)
        foreseen_seconds = wishes.foreseen.get(version.key)
        keep_alive_seconds = _keep_alive_seconds(
            version, demand, claim, wishes.at, default_keep_alive_seconds
        )
        views[version.key] = VersionView(
            key=version.key,
            placements=places,
            is_embedding=version.model.type == Model.Type.EMBEDDING,
            pinned=version.pinned,
            preload_workers=max(version.preload_workers, int(version.key in wishes.preloaded)),
            registered_workers=claim.preload_workers,
            is_registered=claim.references > 0,
            foreseen=foreseen_seconds is not None and demand.idle_seconds > foreseen_seconds,
            keep_alive_seconds=keep_alive_seconds,
            queued=demand.queued,
            priority=demand.priority,
            oldest_wait_seconds=demand.oldest_wait_seconds,
            urgency_seconds=demand.urgency_seconds,
            idle_seconds=demand.idle_seconds,
            phases_until_use=demand.phases_until_use,
            unusable=_file_fault(version) or fault,
        )
    return views


def replica_view(
    replica: Replica, host: HostFacts, places: Iterable[Placement], now: datetime
) -> ReplicaView:
    """A replica at ``now`` by the database's clock.

    ``places`` stand in for needs that an older release did not write down.
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
        # The lines after the first are the end of a log, which clients must not see.
        failure=replica.reason.partition("\n")[0] if replica.load_failed or crash_loop else "",
        load_failed=replica.load_failed,
        file_ready=replica.version.file_state == ModelVersion.FileState.READY,
        busy=host.busy,
        is_serving=host.is_serving,
        has_served=host.has_served,
    )


def _placements(
    version: ModelVersion, nodes: Sequence[Node], measured: Measured, wished_device: str
) -> tuple[tuple[Placement, ...], str]:
    try:
        return placements_among(nodes, version, measured, wished_device), ""
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        # The row was edited past its form. It must not keep the others from being served.
        logger.debug("%s cannot be placed", version.key, exc_info=True)
        return (), (
            f"The memory that {version.key} needs cannot be estimated ({error}). "
            "Check its runtime options."
        )


def _file_fault(version: ModelVersion) -> str:
    if version.file_state != ModelVersion.FileState.READY:
        return (
            f"The file of {version.key} is {version.file_state}. Fetch it first: "
            f"python manage.py fetch_model {version.key}"
        )
    if not version.file_error and kept_header(version.header) is None:
        return (
            f"The header of {version.file_name} was not read by this release. Put the file on the "
            f"controller's machine, or run: python manage.py fetch_model {version.key}"
        )
    return version.file_error


def _keep_alive_seconds(
    version: ModelVersion, demand: Demand, claim: Claim, now: datetime, default_seconds: float
) -> float:
    """Seconds that a version stays without work; infinity until its room is needed."""
    if claim.references:
        return math.inf
    if claim.is_left_over(now, demand.idle_seconds):
        return 0.0
    keep_alive = demand.keep_alive_seconds
    is_embedding = version.model.type == Model.Type.EMBEDDING
    if keep_alive is None or is_embedding:
        keep_alive = version.keep_alive_seconds
    if keep_alive is None:
        # Embedding models stay until their room is needed, unless a keep-alive is set.
        keep_alive = -1 if is_embedding else default_seconds
    return math.inf if keep_alive < 0 else keep_alive
