"""What a machine says of itself."""

import sys

import pytest

from inference.cluster import node_probe
from inference.cluster.node_probe import probe_node
from inference.engine.llama.probe import cpu_features, device_name


def test_features_are_the_words_that_are_on() -> None:
    assert cpu_features("CPU : SSE3 = 1 | AVX512 = 0 | AMX_INT8 = 1 | REPACK = 1 | ") == [
        *("SSE3", "AMX_INT8", "REPACK")
    ]


@pytest.mark.parametrize(
    ("llama_name", "name"), [("CUDA0", "cuda:0"), ("Vulkan12", "vulkan:12"), ("Metal", "metal")]
)
def test_devices_are_written_as_in_the_registry(llama_name: str, name: str) -> None:
    assert device_name(llama_name) == name


def test_this_machine_has_a_cpu() -> None:
    facts = probe_node()
    assert facts is not None
    assert facts.cpu_features


def test_a_probe_that_fails_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_probe, "_COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    assert probe_node() is None
