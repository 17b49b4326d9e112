"""Waiting on a condition instead of for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout_seconds: float = 10.0, poll_seconds: float = 0.02
) -> T:
    """Call ``predicate`` until what it returns is true, and return that.

    Args:
        predicate: asked again and again; an exception of its own ends the wait.
        timeout_seconds: how long to ask.
        poll_seconds: the pause between two calls.

    Raises:
        AssertionError: it was not true in time; names the predicate and its last answer.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            name = getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(f"{name} still {answer!r} after {timeout_seconds:g} s")
        time.sleep(poll_seconds)
    return answer
