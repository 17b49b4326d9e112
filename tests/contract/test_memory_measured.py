"""Memory that real models take, each in its own process, against the estimate."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from inference.cluster.node import probe_node
from models_registry.fleet.memory import estimate_bytes
from models_registry.gguf.reader import read_header
from tests.model_files import model_file

# Loads as a host does, computes a full step, and prints the bytes after the load and last.
PROGRAM = """
import json, sys
from types import SimpleNamespace
import llama_cpp, numpy
import inference.engine.llama.generation_backend, inference.engine.llama.embedding_backend
from inference.replica.loading import load_engine
from inference.replica.process_memory import private_bytes
from inference.messages import Embedding, Generation, SamplingParameters
from models_registry.rules.spec import ModelSpec

path, kind, cells, sequences = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
spec = ModelSpec("m", "m@1", kind, path, "", 8192, cells, sequences)
before = private_bytes()
engine = load_engine(spec, SimpleNamespace(threads=2, prefill_slowdown=2.0), lambda _: None).engine
loaded = private_bytes()
if kind == "embedding":
    engine.submit(Embedding("e", "m@1", [[5] * 500] * (cells // 500)))
else:
    for number in range(min(sequences, 4)):
        prompt = [3 + number] * (cells // 8)
        engine.submit(Generation(f"g{number}", "m@1", prompt, 4, SamplingParameters(),
                                 ignore_eos=True))
    engine.submit(Generation("grammar", "m@1", prompt, 4, SamplingParameters(),
                             grammar="start: /[a-z]+/"))
while not engine.is_idle:
    engine.step()
print(json.dumps([loaded - before, private_bytes() - before]))
"""


@pytest.mark.parametrize(
    ("slug", "kind", "kv_cells", "max_sequences"),
    [
        ("smollm2-135m", "text_generation", 4096, 8),
        ("gemma3-270m", "text_generation", 2048, 4),
        ("qwen2.5-coder-0.5b", "text_generation", 2048, 4),
        ("all-minilm-l6-v2", "embedding", 1024, 4),
    ],
)
@pytest.mark.timeout(180)
def test_estimate_is_within_a_tenth_of_what_is_measured(
    slug: str, kind: str, kv_cells: int, max_sequences: int
) -> None:
    path: Path = model_file(slug)
    node = probe_node()
    assert node is not None
    if node.gpus:
        pytest.skip("measured where the model is on the CPU")
    estimate = estimate_bytes(
        read_header(path), kv_cells, max_sequences, cpu_features=node.cpu_features
    )
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), kind, str(kv_cells), str(max_sequences)],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )
    loaded, worked = json.loads(ended.stdout.splitlines()[-1])
    measured = worked + estimate.mapped_bytes
    assert estimate.total_bytes == pytest.approx(measured, rel=0.1)
    # What is set aside once it is loaded holds for all that comes.
    corrected = max(loaded + estimate.late_bytes, worked)
    assert worked * 0.98 <= corrected <= worked * 1.15
