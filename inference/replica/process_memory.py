"""What this process holds in memory."""

import psutil


def resident_bytes() -> int:
    """All of it, mapped files included."""
    return int(psutil.Process().memory_info().rss)


def private_bytes() -> int:
    """Resident memory less what is backed by files: mapped weights can be read again."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
