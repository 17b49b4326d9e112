"""django-q's sentinel and its child processes, each of which may be killed -9 at any time.

Written against django-q2 1.11; docs/cluster.md lists the differences, and how a task can be lost.
"""

import logging
import os
import signal
import time
import uuid
from collections.abc import Callable
from multiprocessing import Process
from multiprocessing.connection import wait
from types import SimpleNamespace
from typing import Any

import redis
from django.conf import settings
from django_q import cluster as django_q_cluster
from django_q.conf import Conf
from django_q.signing import SignedPackage
from django_q.status import Stat

from inference.cluster.broker import ResilientBroker
from inference.cluster.host_log import HostLogPublisher
from inference.cluster.ipc import KernelFlag, KernelQueue
from inference.cluster.liveness import liveness_folder, running_launches
from inference.cluster.names import MODELS_CLUSTER, cluster_queue_name
from inference.cluster.node import publish_node, withdraw_node
from inference.cluster.parent_death import die_with_parent

logger = logging.getLogger(__name__)

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
# The part of a stop that is reserved for recording the last results.
RESULTS_SECONDS = 1.5
_SCHEDULE_SECONDS = 30.0
_TIMER_LOCK_SECONDS = 0.1
_STOP_POLL_SECONDS = 0.05

_stop: KernelFlag | None = None


def stop_requested() -> bool:
    """Whether this worker must stop; False outside a worker. Any thread may call it.

    A task that still runs at the stop deadline is killed. A signal handler sets the flag, so it
    changes only when the main thread returns from C to Python.
    """
    return _stop is not None and _stop.is_set()


class GuardedSentinel(django_q_cluster.Sentinel):
    """The process that keeps workers, pusher and monitor running until the stop flag is set."""

    def __init__(
        self,
        stop_event: KernelFlag,
        start_event: KernelFlag,
        cluster_id: uuid.UUID,
        broker: ResilientBroker,
        stop_seconds: float,
        register: Callable[[], bool] | None,
    ) -> None:
        super().__init__(stop_event, start_event, cluster_id, broker, start=False)
        self.stop_seconds = stop_seconds
        self._register = register
        self._killed: set[str] = set()
        self._host_logs = HostLogPublisher(liveness_folder())
        self.task_queue = KernelQueue()
        self.result_queue = KernelQueue()
        self.event_out = KernelFlag()
        broker.task_queue = self.task_queue
        self.start()

    def spawn_process(self, target: Callable[..., None], *args: Any) -> Process:
        process: Process = django_q_cluster.get_mp_context().Process(
            target=_run_child,
            args=(target, os.getpid(), *args),
            name=f"Process-{uuid.uuid4().hex}",
        )
        process.daemon = True
        if target is django_q_cluster.worker:
            process.daemon = Conf.DAEMONIZE_WORKERS
            process.timer = args[2]  # type: ignore[attr-defined]  # where django-q looks for it
            self.pool.append(process)
        process.start()
        return process

    def guard(self) -> None:
        """Replace dead children until the stop flag is set; then stop.

        A cycle begins when a child dies, or ``guard_cycle`` seconds after the last one.
        """
        runs_hosts = cluster_queue_name(MODELS_CLUSTER, settings.NODE_NAME) == Conf.CLUSTER_NAME
        self.start_event.set()
        logger.info("cluster %s takes tasks from %s", os.getppid(), self.queue_name())
        cycle_at = time.monotonic()
        schedule_at = register_at = cycle_at + _SCHEDULE_SECONDS
        while not self._wait_for_stop():
            cycle_seconds, cycle_at = time.monotonic() - cycle_at, time.monotonic()
            for process in list(self.pool):
                self._guard_worker(process, cycle_seconds)
            for process in (self.monitor, self.pusher):
                if not process.is_alive():
                    self.reincarnate(process)
            if Conf.SCHEDULER and time.monotonic() >= schedule_at:
                schedule_at = time.monotonic() + _SCHEDULE_SECONDS
                django_q_cluster.scheduler(broker=self.broker)
            if self._register is not None and time.monotonic() >= register_at:
                register_at = time.monotonic() + _SCHEDULE_SECONDS
                if self._register():
                    self._register = None
            Stat(self).save()
            if runs_hosts:
                self._publish_node()
        if runs_hosts:
            try:
                withdraw_node(self.broker.connection, settings.NODE_NAME)
            except redis.RedisError as error:
                logger.debug("the node's presence was not withdrawn: %s", error)
        self.stop()

    def _publish_node(self) -> None:
        """Renew the node's presence, kill fenced hosts and publish the logs of dead ones."""
        workers = {process.pid: process for process in self.pool}
        running = running_launches(liveness_folder(), workers)
        try:
            fenced = publish_node(self.broker.connection, settings.NODE_NAME, running)
        except redis.RedisError as error:
            logger.debug("the node's presence was not renewed: %s", error)
            return
        # One kill is enough: a process that waits for a hanging disk dies when the disk answers.
        for launch in fenced - self._killed:
            logger.warning("host %s is fenced and is killed", launch)
            workers[running[launch]].kill()
        self._killed = fenced
        try:
            self._host_logs.publish(self.broker.connection)
        except redis.RedisError as error:
            logger.debug("the logs of dead hosts were not published: %s", error)

    def _wait_for_stop(self) -> bool:
        """Wait until the next cycle begins; return whether the stop flag is set."""
        children = [process.sentinel for process in (*self.pool, self.monitor, self.pusher)]
        wait([self.stop_event.fileno(), *children], Conf.GUARD_CYCLE)
        return self.stop_event.is_set()

    def _guard_worker(self, process: Any, cycle_seconds: float) -> None:
        if not process.is_alive():
            # It may have died while it held the timer's lock: bypass the lock.
            process.timer = process.timer.get_obj()
            self.reincarnate(process)
            return
        lock = process.timer.get_lock()
        if not lock.acquire(timeout=_TIMER_LOCK_SECONDS):
            return  # it sends a result; check again in the next cycle
        timer = process.timer.get_obj()
        try:
            if timer.value > 0:
                timer.value = max(0.0, timer.value - cycle_seconds)
            timed_out = timer.value == 0
        finally:
            lock.release()
        if timed_out:
            self.reincarnate(process)
            process.kill()  # to a worker, django-q's SIGTERM is only a request

    def stop(self) -> None:
        """Stop the pusher and the workers, then the monitor; kill them at the deadline."""
        deadline = time.monotonic() + max(0.0, self.stop_seconds - RESULTS_SECONDS)
        self.event_out.set()
        for process in self.pool:
            process.terminate()
        remaining = [self.pusher, *self.pool]
        while remaining and time.monotonic() < deadline:
            time.sleep(_STOP_POLL_SECONDS)
            remaining = [process for process in remaining if process.is_alive()]
        for process in remaining:
            logger.warning("process %s did not stop in time and is killed", process.pid)
            process.kill()
            process.join()
        self._return_untaken_tasks()
        self.result_queue.put("STOP")
        self.monitor.join(RESULTS_SECONDS / 2)
        if self.monitor.is_alive():
            logger.error("the last results could not be recorded in time")
            self.monitor.kill()

    def _return_untaken_tasks(self) -> None:
        while True:
            try:
                task = self.task_queue.take()
            except BlockingIOError:
                return
            try:
                self.broker.enqueue(SignedPackage.dumps(task))
            except redis.RedisError as error:
                logger.error("task %s is lost: Redis is away (%s)", task["name"], error)


def run_sentinel(parent_pid: int, *arguments: Any) -> None:
    die_with_parent(parent_pid)
    try:
        GuardedSentinel(*arguments)
    except Exception:
        logger.critical("the sentinel failed", exc_info=True)
        # An ordinary exit would first wait for the workers, perhaps for ever.
        os._exit(1)


def _run_child(target: Callable[..., None], parent_pid: int, *args: Any) -> None:
    die_with_parent(parent_pid)
    if target is django_q_cluster.worker:
        _run_worker(*args)
    else:
        target(*args)


def _run_worker(
    task_queue: KernelQueue, result_queue: KernelQueue, timer: Any, timeout_seconds: int | None
) -> None:
    global _stop
    stop = _stop = KernelFlag()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    # Blocked since before the fork: a SIGTERM that came since then is delivered now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    inbox = SimpleNamespace(get=lambda: task_queue.get(unless=stop))
    django_q_cluster.worker(inbox, result_queue, timer, timeout_seconds)
