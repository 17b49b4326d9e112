"""The main process of a django-q cluster, which runs one sentinel (``sentinel.py``).

When the sentinel dies, the main process ends with status 1. docs/cluster.md lists what differs
from django-q.
"""

import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version

from django import db
from django.core.exceptions import ImproperlyConfigured
from django_q import cluster as django_q_cluster
from django_q.conf import Conf

from inference.cluster.broker import ResilientBroker
from inference.cluster.ipc import KernelFlag
from inference.cluster.sentinel import RESULTS_SECONDS, STOP_SIGNALS, run_sentinel

logger = logging.getLogger(__name__)

DEFAULT_STOP_SECONDS = 8.0
MINIMUM_STOP_SECONDS = RESULTS_SECONDS + 0.5
_DJANGO_Q_SERIES = "1.11"
_NOT_BEFORE_FORK = ("llama_cpp", "torch")


class GuardedCluster(django_q_cluster.Cluster):
    """A cluster with the settings that django-q was imported with.

    Args:
        queue_name: ``cluster_queue_name(…)``.
        stop_seconds: longest duration of a stop; tasks that still run are killed.
        register: registers the node; called every 30 s until it returns True.
    """

    def __init__(
        self,
        queue_name: str,
        stop_seconds: float = DEFAULT_STOP_SECONDS,
        register: Callable[[], bool] | None = None,
    ) -> None:
        if stop_seconds < MINIMUM_STOP_SECONDS:
            raise ValueError(f"stop_seconds must be at least {MINIMUM_STOP_SECONDS:g}")
        # From here on a stop signal stays pending until run() waits for it. The children inherit
        # the mask, so a signal to the process group kills none of them and is never lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        # If the parent had set it to SIG_IGN, the kernel would reap the sentinel unnoticed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        Conf.CLUSTER_NAME = queue_name  # django-q reads it at each use: pusher, scheduler
        super().__init__(ResilientBroker(queue_name))
        self.stop_seconds = stop_seconds
        self.register = register

    def run(self) -> int:
        """Run in the main thread until a stop signal (returns 0) or the sentinel dies (returns 1).

        Raises:
            ImproperlyConfigured: the cluster would not be reliable.
        """
        problems = [*check_django_q(), *_fork_problems()]
        if problems:
            raise ImproperlyConfigured("; ".join(problems))
        db.connections.close_all()
        self.start()
        # Blocked only now: the sentinel's children must not inherit SIGCHLD in the mask.
        waited_for = STOP_SIGNALS | {signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
        while self.sentinel.is_alive():
            if signal.sigwait(waited_for) in STOP_SIGNALS:
                self.stop()
                return 0
        logger.critical("the sentinel died with exit code %s", self.sentinel.exitcode)
        return 1

    def start(self) -> int:
        self.stop_event = KernelFlag()
        self.start_event = KernelFlag()
        shared = (self.stop_event, self.start_event, self.cluster_id, self.broker)
        self.sentinel = django_q_cluster.get_mp_context().Process(
            target=run_sentinel,
            args=(os.getpid(), *shared, self.stop_seconds, self.register),
            name="sentinel",
        )
        self.sentinel.start()
        return int(self.pid)

    def stop(self) -> bool:
        """Stop the sentinel and its children in ``stop_seconds``; return whether it ran."""
        if not self.sentinel.is_alive():
            return False
        self.stop_event.set()
        self.sentinel.join(self.stop_seconds)
        if self.sentinel.is_alive():
            logger.error("the sentinel did not stop in %g s and is killed", self.stop_seconds)
            self.sentinel.kill()
            self.sentinel.join()
        return True


def check_django_q() -> list[str]:
    """List the faults of the installed django-q2 and its settings, one sentence each."""
    problems = []
    installed = version("django-q2")
    if not installed.startswith(f"{_DJANGO_Q_SERIES}."):
        problems.append(
            f"django-q2 {installed} is installed, but inference.cluster.sentinel replaces "
            f"internals of {_DJANGO_Q_SERIES}: install django-q2=={_DJANGO_Q_SERIES}.* or adapt it"
        )
    wanted = {
        "Sentinel": ["stop_event", "start_event", "cluster_id", "broker", "timeout", "start"],
        "worker": ["task_queue", "result_queue", "timer", "timeout"],
        "pusher": ["task_queue", "event", "broker"],
        "monitor": ["result_queue", "broker"],
        "scheduler": ["broker"],
    }
    for name, parameters in wanted.items():
        internal = getattr(django_q_cluster, name, None)
        if internal is None or list(inspect.signature(internal).parameters) != parameters:
            problems.append(f"django_q.cluster.{name} does not take ({', '.join(parameters)})")
    for name in ("spawn_process", "spawn_cluster", "reincarnate", "guard", "stop", "queue_name"):
        if not callable(getattr(getattr(django_q_cluster, "Sentinel", None), name, None)):
            problems.append(f"django_q.cluster.Sentinel has no method {name}")
    if Conf.QUEUE_LIMIT != 1:
        problems.append(f"Q_CLUSTER['queue_limit'] is {Conf.QUEUE_LIMIT}: set it to 1")
    return problems


def _fork_problems() -> list[str]:
    """List what would not survive the fork of the workers, one sentence each."""
    problems = [
        f"{name} is imported before the fork: import it inside the task"
        for name in _NOT_BEFORE_FORK
        if name in sys.modules
    ]
    if sys.platform != "linux":
        problems.append("a cluster needs Linux, where a child can be tied to its parent's life")
    threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if threads:
        problems.append(f"threads run before the fork: {', '.join(threads)}")
    return problems
