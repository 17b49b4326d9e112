"""Fixtures shared with the tests of the queue."""

from tests.inference.queue.conftest import world

__all__ = ["world"]
