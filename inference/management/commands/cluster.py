"""``manage.py cluster NAME``: run one of the django-q clusters."""

import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

import django.db
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django_q.conf import Conf

from inference.cluster.cluster import (
    DEFAULT_STOP_SECONDS,
    MINIMUM_STOP_SECONDS,
    GuardedCluster,
)
from inference.cluster.names import MODELS_CLUSTER, cluster_queue_name, configured_cluster_names
from inference.cluster.node import probe_node
from models_registry.fleet.nodes import register_this_node

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    """Runs until SIGTERM or Ctrl-C (exit status 0) or until its sentinel dies (1)."""

    # The checks would import the URLs of the web, and workers are forked from this process.
    requires_system_checks: list[str] = []
    help = "Run a task cluster: 'models' (each worker holds one model) or 'jobs' (short tasks)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", choices=configured_cluster_names(settings.Q_CLUSTER))
        parser.add_argument(
            "--stop-seconds",
            type=float,
            default=DEFAULT_STOP_SECONDS,
            help="deadline for a stop; running tasks are then killed (default %(default)g)",
        )

    def handle(self, *args: Any, name: str, stop_seconds: float, **options: Any) -> None:
        if stop_seconds < MINIMUM_STOP_SECONDS:
            raise CommandError(f"--stop-seconds must be at least {MINIMUM_STOP_SECONDS:g}")
        if name != Conf.CLUSTER_NAME:
            self._run_again_as(name)
        register = _node_registration() if name == MODELS_CLUSTER else None
        if register is not None and register():
            register = None
        cluster = GuardedCluster(
            cluster_queue_name(name, settings.NODE_NAME), stop_seconds, register
        )
        try:
            status = cluster.run()
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if status != 0:
            raise CommandError(f"cluster {name} ended: its sentinel died", returncode=status)

    def _run_again_as(self, name: str) -> None:
        """Replace this process by one whose django-q has the settings of cluster ``name``.

        django-q selects them at import, by Q_CLUSTER_NAME in the environment.
        """
        own_process = getattr(self, "_called_from_command_line", False)
        if os.environ.get("Q_CLUSTER_NAME") == name or not own_process:
            raise CommandError(
                f"django-q was imported with the settings of cluster {Conf.CLUSTER_NAME!r}: "
                f"set Q_CLUSTER_NAME={name} in the environment of the process"
            )
        os.execve(  # noqa: S606 - the same program again
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {**os.environ, "Q_CLUSTER_NAME": name},
        )


def _node_registration() -> Callable[[], bool]:
    """A function that registers this node and returns whether it succeeded.

    The cluster starts without a database and calls it again later.
    """
    facts = probe_node()

    def register() -> bool:
        try:
            register_this_node(
                settings.NODE_NAME,
                settings.INFERENCE.max_replicas,
                settings.INFERENCE.memory_budget_bytes,
                facts,
            )
        except django.db.Error as error:
            logger.warning("this node could not be registered, will retry: %s", error)
            return False
        finally:
            django.db.connections.close_all()  # forked processes must not share it
        return True

    return register
