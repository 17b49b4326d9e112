"""The names of the django-q clusters and of the queues that they read."""

from collections.abc import Mapping
from typing import Any

DEFAULT_NODE_NAME = "local"
"""``NODE_NAME`` of a service on one machine."""

MODELS_CLUSTER = "models"
JOBS_CLUSTER = "jobs"


def cluster_queue_name(name: str, node_name: str) -> str:
    """The queue that cluster ``name`` reads on ``node_name``: what ``async_task(cluster=…)`` takes.

    A replica is started on one node, so each node's models cluster has a queue of its own. Jobs may
    run anywhere, so all nodes share one queue.

    Args:
        name: the cluster, a key of ``Q_CLUSTER``.
        node_name: the node that the cluster runs on, or that shall run the task.

    Returns:
        ``models`` on the default node, ``models@<node>`` on any other; else ``name``.
    """
    if name == MODELS_CLUSTER and node_name != DEFAULT_NODE_NAME:
        return f"{name}@{node_name}"
    return name


def configured_cluster_names(q_cluster: Mapping[str, Any]) -> tuple[str, ...]:
    """The clusters that a ``Q_CLUSTER`` setting describes, sorted.

    django-q runs a name that is not among them with the default cluster's settings (its workers,
    its recycling) and no word of warning.
    """
    return tuple(sorted({str(q_cluster["name"]), *q_cluster.get("ALT_CLUSTERS", {})}))
