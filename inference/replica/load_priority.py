"""Limit the processor time that a load takes from models that answer meanwhile.

llama.cpp's threads wait for each other a thousand times a step, so a load that takes one of two
cores for half of the time slows answers down several times over. A thread in Linux's SCHED_IDLE
runs only on an idle core and yields at once.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

# A load runs on idle cores only for this long; then it gets a share, on a full machine too.
IDLE_ONLY_SECONDS = 10.0
# A tenth of a core beside one busy thread.
SHARE_NICENESS = 10
# The niceness of a load where a lowered priority cannot be raised again.
LASTING_NICENESS = 15


class LoadPriority:
    def __init__(self) -> None:
        self._adjustable_thread_id: int | None = None
        self._is_idle_only = True
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)

    def lower(self) -> None:
        """Take a small share; called by the loading thread before its first import."""
        # Python code needs a share: while a thread holds the interpreter lock and does not run,
        # there are no heartbeats either.
        thread_id = threading.get_native_id()
        self._adjustable_thread_id = thread_id if can_raise_priority() else None
        niceness = LASTING_NICENESS if self._adjustable_thread_id is None else SHARE_NICENESS
        os.setpriority(os.PRIO_PROCESS, thread_id, max(niceness, self._usual))

    @contextlib.contextmanager
    def idle_only(self) -> Iterator[None]:
        """Run on idle cores only while llama.cpp works; used by the loading thread."""
        if self._is_idle_only:
            self._set_policy(os.SCHED_IDLE)
        try:
            yield
        finally:
            self._set_policy(os.SCHED_OTHER)

    def review(self, loading_seconds: float) -> None:
        """Give a share after ``IDLE_ONLY_SECONDS``; called repeatedly, by another thread."""
        if loading_seconds >= IDLE_ONLY_SECONDS:
            self._is_idle_only = False
            # Every time, because the loading thread may just have read the flag.
            self._set_policy(os.SCHED_OTHER)

    def restore(self) -> None:
        """Give threads that the load left running, such as a driver's, the usual priority."""
        if self._adjustable_thread_id is None:
            return
        for name in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(int(name), os.SCHED_OTHER, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, int(name), self._usual)

    def _set_policy(self, policy: int) -> None:
        if self._adjustable_thread_id is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(self._adjustable_thread_id, policy, os.sched_param(0))


def can_raise_priority() -> bool:
    """Whether this process may take a thread out of SCHED_IDLE again."""
    # It needs CAP_SYS_NICE or an RLIMIT_NICE of 20, and other rules of the kernel may apply: try.
    allowed: list[bool] = []

    def attempt() -> None:
        own = threading.get_native_id()
        try:
            os.sched_setscheduler(own, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(own, os.SCHED_OTHER, os.sched_param(0))
        except PermissionError:
            allowed.append(False)
        else:
            allowed.append(True)

    # A thread of its own, because it may stay in SCHED_IDLE.
    thread = threading.Thread(target=attempt, name="priority")
    thread.start()
    thread.join()
    return allowed == [True]
