"""What this process holds for itself alone."""

import psutil


def private_bytes() -> int:
    """Resident memory less what is backed by files: mapped weights can be read again."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
