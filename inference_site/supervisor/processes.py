"""The processes of the service on one machine."""

import sys
from pathlib import Path

from inference_site.supervisor.child import ChildSpec

# What is left of the supervisor's deadline when the web process has used its own share.
CLUSTER_STOP_SECONDS = 5.0
_ROOT = Path(__file__).resolve().parents[2]


def service_processes(host: str, port: int, home: Path) -> list[ChildSpec]:
    """What ``manage.py up`` runs.

    Args:
        host, port: where the web process listens.
        home: BRIGADE_HOME, handed on to all of them.
    """
    web = ("manage.py", "web", "--host", host, "--port", str(port))
    return [
        _python("web", home, *web, stops_first=True),
        _cluster("models", home),
        _cluster("jobs", home),
        _python("controller", home, "manage.py", "controller"),
    ]


def _cluster(name: str, home: Path) -> ChildSpec:
    stop = ("--stop-seconds", f"{CLUSTER_STOP_SECONDS:g}")
    # django-q reads the name of its cluster when it is imported.
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
