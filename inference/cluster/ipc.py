"""A flag and a queue between forked processes that survive a ``kill -9`` of any of them.

``multiprocessing`` guards its state with semaphores in shared memory: a process killed inside
``get()``, where an idle worker always is, keeps the read lock for ever, and one killed inside
``put()`` leaves half a message in the pipe. Here the kernel keeps all state, without locks: a byte
in a pipe, and whole records in an ``AF_UNIX`` ``SOCK_SEQPACKET`` socket. Linux only.
"""

import array
import math
import os
import pickle
import select
import socket
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

# Larger messages are sent as an open file, so that no socket buffer bounds a message.
_INLINE_BYTES = 32 * 1024


class KernelFlag:
    """A flag that is set once and stays set; replaces ``multiprocessing.Event``."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def fileno(self) -> int:
        return self._reader

    def set(self) -> None:
        """Set the flag; safe in a signal handler."""
        if not self.is_set():
            os.write(self._writer, b"\x01")

    def is_set(self) -> bool:
        return self.wait(0.0)

    def wait(self, timeout_seconds: float) -> bool:
        return self in _readable([self], timeout_seconds)


class KernelQueue:
    """Pickled messages between many processes, each read by exactly one.

    ``put`` blocks while the socket buffer (about 200 KB) is full.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def fileno(self) -> int:
        return self._reader.fileno()

    def put(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(data) <= _INLINE_BYTES:
            self._writer.send(data)
            return
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            socket.send_fds(self._writer, [b"\x00"], [file.fileno()])

    def get(self, unless: KernelFlag | None = None) -> Any:
        """Wait for the next message; return django-q's end mark when ``unless`` is set."""
        sources: list[KernelQueue | KernelFlag] = [self]
        if unless is not None:
            sources.append(unless)
        while True:
            if unless in _readable(sources, math.inf):
                return "STOP"
            try:
                return self.take()
            except BlockingIOError:
                continue  # another reader was quicker

    def take(self) -> Any:
        """Return the next message; raise ``BlockingIOError`` when there is none."""
        # MSG_CMSG_CLOEXEC keeps a received file out of the programs that a task starts.
        data, ancillary, _flags, _address = self._reader.recvmsg(
            _INLINE_BYTES,
            socket.CMSG_LEN(array.array("i").itemsize),
            socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC,
        )
        if not ancillary:
            return pickle.loads(data)  # noqa: S301 - sent by our own processes
        (descriptor,) = array.array("i", ancillary[0][2])
        file: BinaryIO
        with os.fdopen(descriptor, "rb") as file:
            return pickle.load(file)  # noqa: S301 - sent by our own processes

    def empty(self) -> bool:
        return not _readable([self], 0.0)

    def qsize(self) -> int:
        """Return 1 if any message waits, else 0; the kernel tells no more."""
        return int(not self.empty())


def _readable(
    sources: Sequence[KernelQueue | KernelFlag], timeout_seconds: float
) -> list[KernelQueue | KernelFlag]:
    """Wait until any source can be read, or for the timeout; return the readable ones."""
    poll = select.poll()
    for source in sources:
        poll.register(source.fileno(), select.POLLIN)
    milliseconds = None if math.isinf(timeout_seconds) else math.ceil(timeout_seconds * 1000)
    ready = {descriptor for descriptor, _ in poll.poll(milliseconds)}
    return [source for source in sources if source.fileno() in ready]
