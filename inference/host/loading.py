"""Load a version into this process and wrap it in the engine that fits its type."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.conf import InferenceSettings
from inference.engine.config import EngineConfig
from inference.engine.embedding import EmbeddingEngine
from inference.engine.engine import Engine
from inference.engine.engine_thread import StepEngine
from models_registry.spec import ModelSpec

STEP_TOKENS = 512
EMBEDDING_MAX_JOBS = 64


@dataclass(frozen=True)
class Loaded:
    """An engine ready to step, how many items it takes, and how to stop a decode."""

    engine: StepEngine
    max_items: int
    abort: Callable[[], None] | None


def load_engine(
    spec: ModelSpec, settings: InferenceSettings, on_progress: Callable[[float], None]
) -> Loaded:
    """Load ``spec``; llama.cpp is imported here, after the fork.

    Raises:
        ModelLoadError: with the reason.
    """
    path = Path(spec.path)
    if spec.type == "embedding":
        from inference.engine.llama_embedding import LlamaEmbeddingBackend

        embedding_backend = LlamaEmbeddingBackend(
            path,
            step_tokens=spec.kv_cells,
            max_inputs=spec.max_sequences,
            threads=settings.threads,
            gpu_layers=spec.gpu_layers,
            on_progress=on_progress,
        )
        return Loaded(EmbeddingEngine(embedding_backend), EMBEDDING_MAX_JOBS, None)
    from inference.engine.llama_backend import LlamaBackend

    step_tokens = max(STEP_TOKENS, spec.max_sequences)
    backend = LlamaBackend(
        path,
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
        threads=settings.threads,
        gpu_layers=spec.gpu_layers,
        on_progress=on_progress,
    )
    config = EngineConfig(
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
        prefill_budget_tokens=settings.prefill_budget_tokens,
    )
    return Loaded(Engine(backend, config), spec.max_sequences, backend.abort)
