"""Tasks that the clusters under test run in their workers."""

import os
import signal
import time
from pathlib import Path

from inference.cluster.liveness import LivenessLock, liveness_folder
from inference.cluster.sentinel import stop_requested

_LOOK_SECONDS = 0.02


def note(path: str) -> str:
    """Leave the worker's process id in ``path`` and end."""
    Path(path).write_text(str(os.getpid()))
    return "noted"


def hold(path: str) -> str:
    """Note the process id, then run until ``path`` is removed, deaf to a stop."""
    note(path)
    while Path(path).exists():
        time.sleep(_LOOK_SECONDS)
    return "released"


def drain(path: str) -> str:
    """Note the process id, then run until the stop is noticed."""
    note(path)
    while not stop_requested():
        time.sleep(_LOOK_SECONDS)
    return "drained"


def freeze(path: str) -> None:
    """Be a host, of the launch that ``path`` is named after, and stop like one that is stuck."""
    LivenessLock(liveness_folder(), Path(path).name).hold()
    note(path)
    os.kill(os.getpid(), signal.SIGSTOP)


def die_with_timer_lock(path: str) -> None:
    """Kill this worker as if it were in the middle of handing in a result."""
    import gc
    from multiprocessing.sharedctypes import Synchronized

    (timer,) = (found for found in gc.get_objects() if isinstance(found, Synchronized))
    timer.get_lock().acquire()
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)
