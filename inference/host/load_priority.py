"""How much processor time a load takes from the models that answer meanwhile.

llama.cpp's threads wait for each other a thousand times a step, so a load that takes one of two
cores for half of the time slows answers down several times over. A thread in Linux's SCHED_IDLE
runs only where a core has nothing else to do, and gives way at once.
"""

import contextlib
import os
import threading

PATIENCE_SECONDS = 10.0
"""So long a load has only what others leave; then it gets a share, on a full machine too."""
SHARE_NICENESS = 10
"""A tenth of a core beside one busy thread."""
LASTING_NICENESS = 15
"""What is left where a priority that was lowered cannot be raised again."""


class LoadPriority:
    """The priority of the thread that loads a model."""

    def __init__(self) -> None:
        self._thread_id: int | None = None

    def lower(self) -> None:
        """Give way to others; called by the thread that loads.

        Threads that it starts inherit that for good.
        """
        thread_id = threading.get_native_id()
        if may_raise():
            os.sched_setscheduler(thread_id, os.SCHED_IDLE, os.sched_param(0))
            self._thread_id = thread_id
        else:
            os.setpriority(os.PRIO_PROCESS, thread_id, LASTING_NICENESS)

    def review(self, loading_seconds: float) -> None:
        """Give the load a share once it has been patient; called by another thread, now and then.

        Args:
            loading_seconds: how long the load has taken so far.
        """
        if self._thread_id is None or loading_seconds < PATIENCE_SECONDS:
            return
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, self._thread_id, SHARE_NICENESS)
            os.sched_setscheduler(self._thread_id, os.SCHED_OTHER, os.sched_param(0))
        self._thread_id = None


def may_raise() -> bool:
    """Whether this process may take a thread out of SCHED_IDLE again.

    That needs CAP_SYS_NICE or an RLIMIT_NICE of 20; whatever else the kernel asks, trying tells.
    """
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

    # A thread that cannot be brought back is thrown away.
    thread = threading.Thread(target=attempt, name="priority")
    thread.start()
    thread.join()
    return allowed == [True]
