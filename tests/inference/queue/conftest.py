"""The world that queue, stream and host tests act in."""

from collections.abc import Iterator

import pytest

from tests.inference.queue.world import QueueWorld


@pytest.fixture
def world() -> Iterator[QueueWorld]:
    """A version with an empty queue."""
    world = QueueWorld()
    yield world
    world.close()
