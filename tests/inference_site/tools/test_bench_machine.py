import os
import sys

import pytest

from inference_site.tools.bench import machine

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


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
