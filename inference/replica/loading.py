"""Load a version into this process and create the engine for its type.

Modules that import llama.cpp are imported in functions: the process that forks must not load it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inference.conf import InferenceSettings
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Drafter
from inference.engine.drafting.model_drafter import ModelDrafter
from inference.engine.drafting.ngram_drafter import NgramDrafter
from inference.engine.embedding import EmbeddingEngine
from inference.engine.engine import Engine
from inference.engine.engine_thread import StepEngine
from models_registry.fleet.memory import kept_sequences
from models_registry.rules.spec import ModelSpec

if TYPE_CHECKING:
    from inference.engine.llama.runtime import LlamaOptions

IdleOnly = Callable[[], AbstractContextManager[None]]

STEP_TOKENS = 512
# The cost of computing a cell, in tokens generated while keeping it (two cores, 135M parameters).
# Without flash attention every token is multiplied with every cell. With it the cells of other
# sequences are only skipped in the mask, so that the ratio is above 2,048 by now. But keeping for
# 8,192 or longer, whatever the age of hits, gave conversations a seventh less throughput.
HOLD_TOKENS = 512
HOLD_TOKENS_FLASH = 2048
EMBEDDING_MAX_JOBS = 64


@dataclass(frozen=True)
class Loaded:
    """An engine ready to step."""

    engine: StepEngine
    max_items: int
    abort: Callable[[], None] | None
    device: str  # for people
    notice: str  # names options of the version that this machine cannot fulfil
    close: Callable[[], None]


def import_runtime() -> None:
    """Import llama.cpp and its users, which takes a quarter of a second of processor time."""
    import inference.engine.llama.embedding_backend
    import inference.engine.llama.generation_backend  # noqa: F401


def load_engine(
    spec: ModelSpec,
    settings: InferenceSettings,
    on_progress: Callable[[float], None],
    idle_only: IdleOnly = nullcontext,
) -> Loaded:
    """Load ``spec``; ``idle_only`` is entered around llama.cpp's work, but not around Python's.

    ``on_progress`` is called with the loaded fraction, 0 to 1. Raises ``ModelLoadError``.
    """
    from inference.engine.llama.runtime import LlamaOptions

    options = LlamaOptions(
        threads=spec.threads or settings.threads,
        device=spec.device,
        gpu_layers=spec.gpu_layers,
        tensor_split=spec.tensor_split,
        flash_attention=spec.flash_attention,
        cache_type_k=spec.cache_type_k,
        cache_type_v=spec.cache_type_v,
    )
    if spec.type == "embedding":
        return _load_embedding(spec, options, on_progress, idle_only)
    return _load_generation(spec, options, settings.prefill_slowdown, on_progress, idle_only)


def _load_embedding(
    spec: ModelSpec,
    options: "LlamaOptions",
    on_progress: Callable[[float], None],
    idle_only: IdleOnly,
) -> Loaded:
    from inference.engine.llama.embedding_backend import LlamaEmbeddingBackend

    with idle_only():
        backend = LlamaEmbeddingBackend(
            Path(spec.path),
            step_tokens=spec.kv_cells,
            max_inputs=spec.max_sequences,
            options=options,
            on_progress=on_progress,
        )
    device, notice = str(backend.placement), backend.placement.notice
    engine = EmbeddingEngine(backend)
    return Loaded(engine, EMBEDDING_MAX_JOBS, None, device, notice, backend.close)


def _load_generation(
    spec: ModelSpec,
    options: "LlamaOptions",
    max_slowdown: float,
    on_progress: Callable[[float], None],
    idle_only: IdleOnly,
) -> Loaded:
    from inference.engine.llama.generation_backend import LlamaBackend

    config = EngineConfig(
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=max(STEP_TOKENS, spec.max_sequences),
        max_slowdown=max_slowdown,
        kept_sequences=kept_sequences(spec.max_sequences),
        kept_cells=spec.kv_cells // 2,
        hold_tokens=HOLD_TOKENS if spec.flash_attention == "off" else HOLD_TOKENS_FLASH,
    )
    with idle_only():
        backend = LlamaBackend(Path(spec.path), config, options, on_progress)
    config = replace(config, shares_prefixes=not backend.recurrent)
    backends = [backend]
    drafter: Drafter | None = None
    if spec.speculation != "off" and not backend.recurrent:
        drafter = NgramDrafter()
        if spec.draft_path is not None:
            draft_config = replace(config, kept_sequences=0)
            with idle_only():
                draft_backend = LlamaBackend(Path(spec.draft_path), draft_config, options)
            backends.insert(0, draft_backend)
            drafter = ModelDrafter(draft_backend, backend, draft_config)

    def close() -> None:
        for each in backends:
            each.close()

    device, notice = str(backend.placement), backend.placement.notice
    engine = Engine(backend, config, drafter=drafter)
    return Loaded(engine, spec.max_sequences, backend.abort, device, notice, close)
