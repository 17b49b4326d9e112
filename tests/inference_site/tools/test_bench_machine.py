import os
import sys

import pytest

from inference_site.tools.bench import machine

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_cpu_times_leave_out_idle_and_waiting():
    stat = "cpu  10 1 4 80 5 0 2 3 99 99\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    times = machine.parse_cpu_times(stat)
    assert (times.busy_ticks, times.total_ticks) == (20, 105)


def test_busy_ratio_is_of_the_time_between():
    before, after = machine.CpuTimes(10, 100), machine.CpuTimes(40, 200)
    assert machine.busy_ratio(before, after) == pytest.approx(0.3)
    assert machine.busy_ratio(None, after) is None
    assert machine.busy_ratio(after, after) is None


@linux_only
def test_process_cpu_time_is_that_of_the_process():
    seconds = machine.process_cpu_seconds(os.getpid())
    times = os.times()
    assert seconds == pytest.approx(times.user + times.system, abs=0.2)


def test_process_that_is_gone_has_no_cpu_time():
    assert machine.process_cpu_seconds(2**22 + 1) is None


@linux_only
def test_build_without_extensions_is_told_from_the_system_info():
    everything = "CPU : AVX2 = 1 | AVX512 = 1 | AVX512_VNNI = 1 | "
    assert machine.unused_cpu_features(everything) == []
    assert set(machine.unused_cpu_features("CPU : ")) <= {"AVX2", "AVX512", "AVX512_VNNI"}
