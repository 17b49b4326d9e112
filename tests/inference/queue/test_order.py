"""Who is served first."""

import pytest

from inference.queue.order import head_start_seconds


@pytest.mark.parametrize("priority", [1, 2, 3])
def test_fifo_gives_no_head_start(priority: int) -> None:
    assert head_start_seconds("fifo", priority, 30) == 0


@pytest.mark.parametrize(("priority", "expected"), [(1, 0), (2, 30), (3, 60)])
def test_priority_gives_ageing_seconds_for_each_level(priority: int, expected: float) -> None:
    assert head_start_seconds("priority", priority, 30) == expected
