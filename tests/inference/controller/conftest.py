"""Fixtures shared with the tests of the queue, and of the controller."""

from tests.inference.controller.controlled_fleet import fleet
from tests.inference.queue.conftest import world

__all__ = ["fleet", "world"]
