"""Load a version into this process and wrap it in the engine that fits its type."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.conf import InferenceSettings
from inference.engine.config import EngineConfig
from inference.engine.drafter import Drafter
from inference.engine.embedding import EmbeddingEngine
from inference.engine.engine import Engine
from inference.engine.engine_thread import StepEngine
from inference.engine.model_drafter import ModelDrafter
from inference.engine.ngram import NgramDrafter
from models_registry.spec import ModelSpec

STEP_TOKENS = 512
# llama.cpp's LLAMA_MAX_SEQ.
MAX_SEQUENCE_IDS = 256
KEPT_SEQUENCES = 32
EMBEDDING_MAX_JOBS = 64


@dataclass(frozen=True)
class Loaded:
    """An engine ready to step, how many items it takes, and how to stop a decode.

    ``device`` is what it computes on, for people; ``notice`` says what of the version's options
    this machine could not give, "" when all is as it was asked for.
    """

    engine: StepEngine
    max_items: int
    abort: Callable[[], None] | None
    device: str
    notice: str


def load_engine(
    spec: ModelSpec, settings: InferenceSettings, on_progress: Callable[[float], None]
) -> Loaded:
    """Load ``spec``; llama.cpp is imported here, after the fork.

    Raises:
        ModelLoadError: with the reason.
    """
    # Here, because llama.cpp may not be in the process that forks.
    from inference.engine.llama_runtime import LlamaOptions

    path = Path(spec.path)
    threads = spec.threads or settings.threads
    options = LlamaOptions(
        device=spec.device,
        gpu_layers=spec.gpu_layers,
        tensor_split=spec.tensor_split,
        flash_attention=spec.flash_attention,
        cache_type_k=spec.cache_type_k,
        cache_type_v=spec.cache_type_v,
    )
    if spec.type == "embedding":
        from inference.engine.llama_embedding import LlamaEmbeddingBackend

        embedding_backend = LlamaEmbeddingBackend(
            path,
            step_tokens=spec.kv_cells,
            max_inputs=spec.max_sequences,
            threads=threads,
            options=options,
            on_progress=on_progress,
        )
        placement = embedding_backend.placement
        return Loaded(
            EmbeddingEngine(embedding_backend),
            EMBEDDING_MAX_JOBS,
            None,
            str(placement),
            placement.notice,
        )
    from inference.engine.llama_backend import LlamaBackend

    step_tokens = max(STEP_TOKENS, spec.max_sequences)
    kept_sequences = max(0, min(KEPT_SEQUENCES, MAX_SEQUENCE_IDS - spec.max_sequences))
    backend = LlamaBackend(
        path,
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        kept_sequences=kept_sequences,
        step_tokens=step_tokens,
        threads=threads,
        options=options,
        on_progress=on_progress,
    )
    config = EngineConfig(
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
        max_slowdown=settings.prefill_slowdown,
        kept_sequences=kept_sequences,
        kept_cells=spec.kv_cells // 2,
        shares_prefixes=not backend.recurrent,
    )
    drafter: Drafter | None = None
    if spec.speculation != "off" and not backend.recurrent:
        drafter = NgramDrafter()
        if spec.draft_path is not None:
            draft_backend = LlamaBackend(
                Path(spec.draft_path),
                kv_cells=spec.kv_cells,
                max_sequences=spec.max_sequences,
                step_tokens=step_tokens,
                threads=threads,
                options=options,
            )
            drafter = ModelDrafter(
                draft_backend,
                backend,
                kv_cells=spec.kv_cells,
                max_sequences=spec.max_sequences,
                step_tokens=step_tokens,
            )
    return Loaded(
        Engine(backend, config, drafter=drafter),
        spec.max_sequences,
        backend.abort,
        str(backend.placement),
        backend.placement.notice,
    )
