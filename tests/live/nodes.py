"""Another machine beside a live service, as far as one machine can be another."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference_site.embedded.urls import embedded_urls
from tests.live.service import ROOT, LiveService


@contextmanager
def node(
    service: LiveService, name: str, home: Path, budget_bytes: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A cluster of model hosts that shares databases, secrets and model files, and nothing else.

    Args:
        service: whose registry and queues it works for.
        name: of the node.
        home: its own state: logs and locks.
        budget_bytes: of memory for models.
    """
    database_url, redis_url = embedded_urls(service.home)
    secrets = service.home / "secrets"
    environment = {
        **service.environment,
        "BRIGADE_HOME": str(home),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": (secrets / "django").read_text(),
        "JWT_SECRET": (secrets / "jwt").read_text(),
        "NODE_NAME": name,
        "Q_CLUSTER_NAME": "models",
        "INFERENCE_MEMORY_BUDGET_BYTES": str(budget_bytes),
    }
    command = [sys.executable, "manage.py", "cluster", "models"]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as cluster:
        try:
            yield cluster
            cluster.terminate()
            cluster.wait(20)
        finally:
            cluster.kill()
