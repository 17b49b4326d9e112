"""Load a version into this process and wrap it in the engine that fits its type.

What imports llama.cpp is imported in the functions: it may not be in the process that forks.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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
    from inference.engine.llama.generation_backend import LlamaBackend
    from inference.engine.llama.runtime import LlamaOptions

GivingWay = Callable[[], AbstractContextManager[None]]

STEP_TOKENS = 512
# What computing a cell costs, in tokens generated while holding it (two cores, 135M parameters).
# Without flash attention every token is multiplied with every cell; with it, those of other
# sequences are only passed in the mask: it costs more than this by now, but holding for 8,192 or
# longer, whatever the age of what comes back, gave conversations a seventh less throughput.
HOLD_TOKENS = 512
HOLD_TOKENS_FLASH = 2048
EMBEDDING_MAX_JOBS = 64


@dataclass(frozen=True)
class Loaded:
    """An engine ready to step, how many items it takes, and how to stop a decode.

    ``device`` is what it computes on, for people; ``notice`` says what of the version's options
    this machine could not give, "" when all is as it was asked for. ``close`` frees the memory.
    """

    engine: StepEngine
    max_items: int
    abort: Callable[[], None] | None
    device: str
    notice: str
    close: Callable[[], None]


def import_runtime() -> None:
    """Import llama.cpp and what stands on it: a quarter of a second of processor time."""


def load_engine(
    spec: ModelSpec,
    settings: InferenceSettings,
    on_progress: Callable[[float], None],
    giving_way: GivingWay = nullcontext,
) -> Loaded:
    """Load ``spec``; llama.cpp is imported here, after the fork.

    Args:
        spec: what to load.
        settings: of the service.
        on_progress: is told the loaded fraction, 0 to 1.
        giving_way: is around what llama.cpp does, in which Python has no part.

    Raises:
        ModelLoadError: with the reason.
    """
    threads = spec.threads or settings.threads
    if spec.type == "embedding":
        return _load_embedding(spec, threads, on_progress, giving_way)
    return _load_generation(spec, settings.prefill_slowdown, threads, on_progress, giving_way)


def _load_embedding(
    spec: ModelSpec,
    threads: int,
    on_progress: Callable[[float], None],
    giving_way: GivingWay,
) -> Loaded:
    from inference.engine.llama.embedding_backend import LlamaEmbeddingBackend

    with giving_way():
        backend = LlamaEmbeddingBackend(
            Path(spec.path),
            step_tokens=spec.kv_cells,
            max_inputs=spec.max_sequences,
            threads=threads,
            options=_options(spec),
            on_progress=on_progress,
        )
    placement = backend.placement
    return Loaded(
        EmbeddingEngine(backend),
        EMBEDDING_MAX_JOBS,
        None,
        str(placement),
        placement.notice,
        backend.close,
    )


def _load_generation(
    spec: ModelSpec,
    max_slowdown: float,
    threads: int,
    on_progress: Callable[[float], None],
    giving_way: GivingWay,
) -> Loaded:
    from inference.engine.llama.generation_backend import LlamaBackend

    step_tokens = max(STEP_TOKENS, spec.max_sequences)
    kept = kept_sequences(spec.max_sequences)
    with giving_way():
        backend = LlamaBackend(
            Path(spec.path),
            kv_cells=spec.kv_cells,
            max_sequences=spec.max_sequences,
            kept_sequences=kept,
            step_tokens=step_tokens,
            threads=threads,
            options=_options(spec),
            on_progress=on_progress,
        )
    config = EngineConfig(
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
        max_slowdown=max_slowdown,
        kept_sequences=kept,
        kept_cells=spec.kv_cells // 2,
        hold_tokens=HOLD_TOKENS if spec.flash_attention == "off" else HOLD_TOKENS_FLASH,
        shares_prefixes=not backend.recurrent,
    )
    with giving_way():
        draft_backend = _draft_backend(spec, backend, step_tokens, threads)
    drafter = _drafter(spec, backend, draft_backend, step_tokens)

    def close() -> None:
        for each in filter(None, (draft_backend, backend)):
            each.close()

    placement = backend.placement
    return Loaded(
        Engine(backend, config, drafter=drafter),
        spec.max_sequences,
        backend.abort,
        str(placement),
        placement.notice,
        close,
    )


def _guesses(spec: ModelSpec, target: "LlamaBackend") -> bool:
    """Whether tokens are guessed ahead."""
    return spec.speculation != "off" and not target.recurrent


def _drafter(
    spec: ModelSpec,
    target: "LlamaBackend",
    draft_backend: "LlamaBackend | None",
    step_tokens: int,
) -> Drafter | None:
    """What guesses ahead for a version: its draft model, else its own earlier words."""
    if draft_backend is None:
        return NgramDrafter() if _guesses(spec, target) else None
    return ModelDrafter(
        draft_backend,
        target,
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
    )


def _draft_backend(
    spec: ModelSpec, target: "LlamaBackend", step_tokens: int, threads: int
) -> "LlamaBackend | None":
    """The draft model of a version, if it has one and guesses."""
    from inference.engine.llama.generation_backend import LlamaBackend

    if spec.draft_path is None or not _guesses(spec, target):
        return None
    return LlamaBackend(
        Path(spec.draft_path),
        kv_cells=spec.kv_cells,
        max_sequences=spec.max_sequences,
        step_tokens=step_tokens,
        threads=threads,
        options=_options(spec),
    )


def _options(spec: ModelSpec) -> "LlamaOptions":
    from inference.engine.llama.runtime import LlamaOptions

    return LlamaOptions(
        device=spec.device,
        gpu_layers=spec.gpu_layers,
        tensor_split=spec.tensor_split,
        flash_attention=spec.flash_attention,
        cache_type_k=spec.cache_type_k,
        cache_type_v=spec.cache_type_v,
    )
