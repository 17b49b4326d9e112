"""Which queue a cluster reads, and which clusters may be started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from inference.cluster.names import cluster_queue_name, configured_cluster_names

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "node_name", "queue"),
    [
        ("models", "local", "models"),
        ("models", "gpu-1", "models@gpu-1"),
        ("jobs", "local", "jobs"),
        ("jobs", "gpu-1", "jobs"),
    ],
)
def test_queue_name_is_per_node_for_models_alone(name: str, node_name: str, queue: str) -> None:
    assert cluster_queue_name(name, node_name) == queue


def test_configured_names_are_the_default_and_the_alternatives() -> None:
    assert configured_cluster_names({"name": "b", "ALT_CLUSTERS": {"c": {}, "a": {}}}) == (
        "a",
        "b",
        "c",
    )
    assert configured_cluster_names({"name": "b"}) == ("b",)


def test_unknown_cluster_is_refused_with_the_known_names() -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "cluster", "model"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid choice: 'model'" in done.stderr
    assert "jobs" in done.stderr
    assert "models" in done.stderr


def test_cluster_of_other_settings_is_refused_inside_a_process() -> None:
    with pytest.raises(CommandError, match="set Q_CLUSTER_NAME=models"):
        call_command("cluster", "models")


def test_stop_deadline_too_short_to_record_results_is_refused() -> None:
    with pytest.raises(CommandError, match="--stop-seconds must be at least 2"):
        call_command("cluster", "jobs", stop_seconds=1.0)
