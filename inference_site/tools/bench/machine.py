"""Load of the machine and of a process, from ``/proc`` (Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Ticks of all cores together since boot."""

    busy_ticks: int
    total_ticks: int


def parse_cpu_times(stat: str) -> CpuTimes:
    """Parse the first line of ``/proc/stat`` (see proc(5)).

    Its fields are user, nice, system, idle, iowait, irq, softirq and steal; user and nice include
    the guest fields that follow.
    """
    ticks = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return CpuTimes(sum(ticks) - idle, sum(ticks))


def read_cpu_times() -> CpuTimes | None:
    """Return the machine's CPU times now; None without ``/proc/stat``."""
    try:
        return parse_cpu_times(_STAT.read_text())
    except OSError:
        return None


def busy_ratio(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Return the busy share of all cores between two readings, 0 to 1."""
    if before is None or after is None or after.total_ticks == before.total_ticks:
        return None
    return (after.busy_ticks - before.busy_ticks) / (after.total_ticks - before.total_ticks)


def process_cpu_seconds(pid: int) -> float | None:
    """Return the CPU seconds of a process and its threads; None when they cannot be read."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the name in brackets, may itself contain spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
