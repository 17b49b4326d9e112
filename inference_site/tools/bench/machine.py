"""CPU time of a process, and what the CPU can do."""

from pathlib import Path

import psutil


def process_cpu_seconds(pid: int) -> float | None:
    """Return the CPU seconds of a process and its threads; None when they cannot be read."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return times.user + times.system


def unused_cpu_features(built_with: str) -> list[str]:
    """List vector extensions of this CPU that a llama.cpp build does not use.

    Args:
        built_with: llama.cpp's system info, such as ``CPU : AVX2 = 1 | FMA = 1``.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    extensions = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI"}
    return [
        name
        for flag, name in extensions.items()
        if flag in flags and f"{name} = 1" not in built_with
    ]
