"""Names of the django-q clusters and of the queues that they read."""

from collections.abc import Mapping
from typing import Any

# NODE_NAME of a service on one machine.
DEFAULT_NODE_NAME = "local"
MODELS_CLUSTER = "models"


def cluster_queue_name(name: str, node_name: str) -> str:
    """Return the queue of a cluster, for ``async_task(cluster=…)``; nodes share the jobs' queue."""
    if name == MODELS_CLUSTER and node_name != DEFAULT_NODE_NAME:
        return f"{name}@{node_name}"
    return name


def configured_cluster_names(q_cluster: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the clusters of a ``Q_CLUSTER`` setting; django-q does not refuse other names."""
    return tuple(sorted({str(q_cluster["name"]), *q_cluster.get("ALT_CLUSTERS", {})}))
