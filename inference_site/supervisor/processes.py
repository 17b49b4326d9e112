"""The processes of the service on one machine."""

import sys
from pathlib import Path

from inference_site.supervisor.child import ChildSpec

# The rest of the supervisor's deadline after the share of the web process.
CLUSTER_STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


def service_processes(host: str, port: int, home: Path) -> list[ChildSpec]:
    """Return the processes of ``manage.py up``; the web process listens on ``host:port``."""
    web = ("manage.py", "web", "--host", host, "--port", str(port))
    return [
        _python("web", home, *web, stops_first=True),
        _cluster("models", home),
        _cluster("jobs", home),
        _python("controller", home, "manage.py", "controller"),
    ]


def _cluster(name: str, home: Path) -> ChildSpec:
    stop = ("--stop-seconds", f"{CLUSTER_STOP_SECONDS:g}")
    # django-q reads Q_CLUSTER_NAME when it is imported.
    return _python(name, home, "manage.py", "cluster", name, *stop, Q_CLUSTER_NAME=name)


def _python(
    name: str, home: Path, *arguments: str, stops_first: bool = False, **variables: str
) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=(sys.executable, *arguments),
        environment={"BRIGADE_HOME": str(home), **variables},
        directory=_ROOT,
        stops_first=stops_first,
    )
