"""Who is served first: pure."""


def head_start_seconds(strategy: str, priority: int, ageing_seconds: float) -> float:
    """How much earlier than its arrival an item is treated as having come.

    With ``priority`` every level above low is worth ``ageing_seconds`` of waiting: a high-priority
    arrival overtakes everything that has waited less than that, and nothing starves. With ``fifo``
    nothing overtakes.

    Args:
        strategy: ``fifo`` or ``priority``.
        priority: 1 low, 2 normal, 3 high.
        ageing_seconds: the worth of one level.
    """
    if strategy == "fifo":
        return 0.0
    return (priority - 1) * ageing_seconds
