"""The processes of the service on one machine."""

import sys
from pathlib import Path

from inference_site.supervisor.child import ChildSpec

# The rest of the supervisor's deadline after the share of the web process.
CLUSTER_STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


def service_processes(host: str, port: int, home: Path) -> list[ChildSpec]:
    """Return the processes of ``manage.py up``; the web process listens on ``host:port``."""

    def process(name: str, *arguments: str, **variables: str) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, "manage.py", *arguments),
            environment={"BRIGADE_HOME": str(home), **variables},
            directory=_ROOT,
            stops_first=name == "web",
        )

    stop = ("--stop-seconds", f"{CLUSTER_STOP_SECONDS:g}")
    return [
        process("web", "web", "--host", host, "--port", str(port)),
        # django-q reads Q_CLUSTER_NAME when it is imported.
        process("models", "cluster", "models", *stop, Q_CLUSTER_NAME="models"),
        process("jobs", "cluster", "jobs", *stop, Q_CLUSTER_NAME="jobs"),
        process("controller", "controller"),
    ]
