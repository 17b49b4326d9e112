"""How much processor time a load takes from the models that answer meanwhile.

llama.cpp's threads wait for each other a thousand times a step, so a load that takes one of two
cores for half of the time slows answers down several times over. A thread in Linux's SCHED_IDLE
runs only where a core has nothing else to do, and gives way at once.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

PATIENCE_SECONDS = 10.0
"""So long a load has only what others leave; then it gets a share, on a full machine too."""
SHARE_NICENESS = 10
"""A tenth of a core beside one busy thread."""
LASTING_NICENESS = 15
"""What a load has where a priority that was lowered cannot be raised again."""


class LoadPriority:
    """The priority of the thread that loads a model, and of what it starts meanwhile."""

    def __init__(self) -> None:
        self._raisable_id: int | None = None
        self._is_patient = True
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)

    def lower(self) -> None:
        """Take a small share; called by the thread that loads, before its first import.

        Python's own work needs a share: who is put off while he has the interpreter lock puts off
        the process's signs of life as well.
        """
        thread_id = threading.get_native_id()
        self._raisable_id = thread_id if may_raise() else None
        niceness = LASTING_NICENESS if self._raisable_id is None else SHARE_NICENESS
        os.setpriority(os.PRIO_PROCESS, thread_id, max(niceness, self._usual))

    @contextlib.contextmanager
    def giving_way(self) -> Iterator[None]:
        """Take only what others leave while llama.cpp works; used by the thread that loads."""
        if self._is_patient:
            self._set_policy(os.SCHED_IDLE)
        try:
            yield
        finally:
            self._set_policy(os.SCHED_OTHER)

    def review(self, loading_seconds: float) -> None:
        """Give the load a share again once it was patient; called by another thread, now and then.

        Args:
            loading_seconds: how long the load has taken so far.
        """
        if loading_seconds >= PATIENCE_SECONDS:
            self._is_patient = False
            # Each time: the other thread may just have looked.
            self._set_policy(os.SCHED_OTHER)

    def restore(self) -> None:
        """Give threads that the load has left behind, such as a driver's, the usual priority.

        Where it may not be raised they keep the lower one.
        """
        if self._raisable_id is None:
            return
        for name in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(int(name), os.SCHED_OTHER, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, int(name), self._usual)

    def _set_policy(self, policy: int) -> None:
        if self._raisable_id is not None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.sched_setscheduler(self._raisable_id, policy, os.sched_param(0))


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
