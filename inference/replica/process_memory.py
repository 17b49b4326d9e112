import psutil


def resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def private_bytes() -> int:
    """Resident memory without mapped files: mapped weights can be read again."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))
