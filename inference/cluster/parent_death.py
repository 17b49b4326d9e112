"""Tie a child process to the life of the process that forked it."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill -9 this process when its parent dies. Linux only.

    The kernel watches the *thread* that forked (prctl(2), PR_SET_PDEATHSIG), so fork from the
    parent's main thread. ``parent_pid`` is noted before the fork: the parent may already be dead.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
