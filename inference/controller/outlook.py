"""What the controller sees at one moment: nodes, versions with their demand, replicas."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from inference.conf import InferenceSettings
from inference.controller.watch import Sighting, Signs
from inference.queue.demand import DemandReader, HostLoad, VersionDemand
from models_registry.fleet import views as fleet
from models_registry.fleet.census import Census
from models_registry.fleet.registrations import claims
from models_registry.models import Replica
from models_registry.plan.facts import NodeView, ReplicaView, Rules, VersionView


@dataclass(frozen=True)
class Outlook:
    """The facts that a plan is made of; ``rows`` are the replicas by id.

    A row whose version was deleted a moment ago is in none of them.
    """

    census: Census
    nodes: list[NodeView]
    versions: dict[str, VersionView]
    replicas: list[ReplicaView]
    rows: dict[int, Replica]
    loads: dict[str, HostLoad]


def look(
    reader: DemandReader,
    census: Census,
    seen: Sighting,
    signs: Mapping[int, Signs],
    preloaded: Collection[str],
    foreseen: Mapping[str, float],
    settings: InferenceSettings,
    rules: Rules,
) -> Outlook:
    """Gather what a plan needs.

    Args:
        reader: of what requests want.
        census: all there are.
        seen: who shows itself.
        signs: of life, by replica id.
        preloaded: keys of the versions that the settings want in memory.
        foreseen: versions to be preloaded by prediction, with the seconds since it was made.
        settings: of the service.
        rules: of the plan.
    """
    launches = [str(row.launch_id) for row in census.replicas]
    waiting, loads = reader.read(census.version_keys, launches)
    demand = {key: _demand(found, is_foreseen=key in foreseen) for key, found in waiting.items()}
    wishes = fleet.Wishes(demand, preloaded, foreseen, claims(), census.taken_at)
    versions = fleet.wanted_versions(census, wishes, settings.models_dir)
    nodes = fleet.node_views(census, seen.nodes, seen.node_silence_seconds)
    usable = {node.name for node in nodes if node.is_alive or rules.expects(node)}
    views = fleet.version_views(
        versions,
        wishes,
        [node for node in census.nodes if node.name in usable],
        settings.keep_alive_seconds,
    )
    rows = {row.pk: row for row in census.replicas if row.version_id in versions}
    return Outlook(
        census=census,
        nodes=nodes,
        versions=views,
        replicas=[
            fleet.replica_view(
                row,
                _host_facts(signs[row.pk], loads[str(row.launch_id)]),
                views[row.version.key].placements,
                census.taken_at,
            )
            for row in rows.values()
        ],
        rows=rows,
        loads=loads,
    )


def _host_facts(signs: Signs, load: HostLoad) -> fleet.HostFacts:
    return fleet.HostFacts(
        is_alive=signs.is_alive,
        is_dead=signs.is_dead,
        holds_memory=signs.holds_memory,
        busy=load.claimed,
        is_serving=signs.is_alive and load.is_serving,
        has_served=load.has_served,
    )


def _demand(found: VersionDemand, *, is_foreseen: bool) -> fleet.Demand:
    # Redis may have lost when it was used: then its time begins now. What is foreseen, and not
    # there, has not been used since.
    unknown = math.inf if is_foreseen else 0.0
    return fleet.Demand(
        queued=found.queued,
        priority=found.priority,
        oldest_wait_seconds=found.oldest_wait_seconds,
        urgency_seconds=found.urgency_seconds,
        idle_seconds=unknown if found.idle_seconds is None else found.idle_seconds,
        keep_alive_seconds=found.keep_alive_seconds,
    )
