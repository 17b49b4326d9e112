"""What the controller sees at one moment: nodes, versions with their demand, replicas."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from inference.conf import InferenceSettings
from inference.queue import keys
from inference.queue.demand import DemandReader, HostLoad, VersionDemand
from models_registry import fleet
from models_registry.footprints import measured_footprints
from models_registry.models import Node, Replica
from models_registry.residency.facts import NodeView, ReplicaView, VersionView


@dataclass(frozen=True)
class Signs:
    """How a launch shows that it lives: heartbeat, lock file."""

    is_alive: bool
    is_dead: bool
    holds_memory: bool


@dataclass(frozen=True)
class Outlook:
    """The facts that a plan is made of; ``rows`` are the replicas by id.

    A row whose version was deleted a moment ago is in none of them.
    """

    nodes: list[NodeView]
    versions: dict[str, VersionView]
    replicas: list[ReplicaView]
    rows: dict[int, Replica]
    loads: dict[str, HostLoad]
    loadable: set[str]


def look(
    client: redis.Redis,
    reader: DemandReader,
    rows: Sequence[Replica],
    signs: Mapping[int, Signs],
    preloaded: Collection[str],
    settings: InferenceSettings,
    foreseen: Mapping[str, float],
) -> Outlook:
    """Gather what a plan needs.

    Args:
        client, reader: Redis.
        rows: all replicas.
        signs: of life, by replica id.
        preloaded: keys of the versions that the settings want in memory.
        settings: of the service.
        foreseen: versions to be preloaded by prediction, with the seconds since it was made.
    """
    launches = [str(row.launch_id) for row in rows]
    keys_of_versions = fleet.version_keys()
    waiting, loads = reader.read(keys_of_versions, launches)
    alive = alive_nodes(client, list(Node.objects.values_list("name", flat=True)))
    versions = fleet.version_views(
        {key: _demand(found, is_foreseen=key in foreseen) for key, found in waiting.items()},
        alive,
        measured_footprints(),
        preloaded,
        settings.keep_alive_seconds,
        settings.models_dir,
        foreseen,
    )
    known = [row for row in rows if row.version.key in versions]
    views = [
        fleet.replica_view(
            row,
            _host_facts(signs[row.pk], loads[str(row.launch_id)]),
            versions[row.version.key].placements,
        )
        for row in known
    ]
    return Outlook(
        fleet.node_views(alive),
        versions,
        views,
        {row.pk: row for row in known},
        loads,
        fleet.loadable_keys(),
    )


def alive_nodes(client: redis.Redis, names: Sequence[str]) -> set[str]:
    """Names of the nodes whose cluster takes tasks."""
    if not names:
        return set()
    answers: Any = client.mget([keys.node(name) for name in names])
    return {name for name, answer in zip(names, answers, strict=True) if answer is not None}


def _host_facts(signs: Signs, load: HostLoad) -> fleet.HostFacts:
    return fleet.HostFacts(
        is_alive=signs.is_alive,
        is_dead=signs.is_dead,
        holds_memory=signs.holds_memory,
        busy=load.claimed,
        is_serving=signs.is_alive and load.is_serving,
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
