"""Runtime options in real loads of SmolLM2 and MiniLM."""

from pathlib import Path

import pytest

from inference.engine.backend import ModelLoadError, Span
from inference.engine.config import EngineConfig
from inference.engine.llama.devices import Device, DeviceKind, Placement, list_devices
from inference.engine.llama.embedding_backend import LlamaEmbeddingBackend
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.prompts.vocabulary import Vocabulary

CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
HAS_GPU = any(item.kind is not DeviceKind.CPU for item in list_devices())


def _load(path: Path, options: LlamaOptions) -> LlamaBackend:
    config = EngineConfig(256, 2, step_tokens=64, kept_sequences=0)
    return LlamaBackend(path, config, options)


def _next_text(backend: LlamaBackend, path: Path) -> str:
    vocabulary = Vocabulary(path)
    tokens = vocabulary.tokenize("The capital of France is", add_special=True, parse_control=False)
    backend.decode([Span(0, 0, tokens, outputs=1)])
    return vocabulary.detokenize([int(backend.logits(0).argmax())])


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_every_cache_type_serves(smollm2_path: Path, cache_type: str) -> None:
    options = LlamaOptions(threads=2, cache_type_k=cache_type, cache_type_v=cache_type)
    backend = _load(smollm2_path, options)
    try:
        assert _next_text(backend, smollm2_path) == " Paris"
    finally:
        backend.close()


@pytest.mark.parametrize(
    ("flash_attention", "type_k", "type_v", "in_tiles"),
    [
        ("auto", "f16", "f16", True),
        ("on", "f32", "f16", True),
        ("off", "f16", "f16", False),
        ("auto", "f16", "bf16", False),
        ("auto", "q8_0", "q8_0", False),
    ],
)
def test_batches_are_attended_in_tiles_with_flash_attention_on_a_cpu(
    flash_attention: str, type_k: str, type_v: str, in_tiles: bool
) -> None:
    options = LlamaOptions(
        threads=2, flash_attention=flash_attention, cache_type_k=type_k, cache_type_v=type_v
    )
    gpu = Placement((Device(0, "CUDA0", "a GPU", DeviceKind.GPU),))
    assert bool(options.tiled_pairs(Placement())) == in_tiles
    assert options.tiled_pairs(gpu) == 0


@pytest.mark.parametrize("flash_attention", ["auto", "on", "off"])
def test_flash_attention_changes_no_answer(smollm2_path: Path, flash_attention: str) -> None:
    backend = _load(smollm2_path, LlamaOptions(threads=2, flash_attention=flash_attention))
    try:
        assert _next_text(backend, smollm2_path) == " Paris"
    finally:
        backend.close()


def test_quantised_values_without_flash_attention_fail_with_the_reason(smollm2_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="quantized V cache requires flash_attn"):
        _load(smollm2_path, LlamaOptions(threads=2, flash_attention="off", cache_type_v="q8_0"))


@pytest.mark.skipif(HAS_GPU, reason="this machine has the device")
def test_missing_device_falls_back_to_the_cpu(smollm2_path: Path, minilm_path: Path) -> None:
    options = LlamaOptions(threads=2, device="cuda:0")
    backend = _load(smollm2_path, options)
    embedding = LlamaEmbeddingBackend(minilm_path, step_tokens=512, max_inputs=1, options=options)
    try:
        for placement in (backend.placement, embedding.placement):
            assert str(placement) == "CPU"
            assert "There is no cuda:0 here" in placement.notice
        assert _next_text(backend, smollm2_path) == " Paris"
    finally:
        backend.close()
        embedding.close()
