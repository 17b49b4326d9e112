"""The service's own settings, typed; ``inference_site.settings`` fills them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from models_registry.rules.cache_settings import CacheSettings
from models_registry.rules.mode_settings import ModeSettings, OrchestrationMode, read_settings

# Of fewer cores none can be spared.
SPARING_CORES = 4


def default_threads(cores: int) -> int:
    """CPU threads of a host: all cores but one, which the web process needs, where there are many.

    llama.cpp's threads wait for each other at every operation, so one that shares its core slows
    down all of them.
    """
    return cores - 1 if cores >= SPARING_CORES else cores


@dataclass(frozen=True)
class OrchestrationSettings:
    """Settings of answers that several models give; ``modes`` are those that presets leave out."""

    default_mode: str = OrchestrationMode.SINGLE
    max_calls: int = 32
    timeout_seconds: float = 600
    text_ttl_seconds: int = 86_400
    grace_seconds: float = 30
    modes: Mapping[str, ModeSettings] = field(
        default_factory=lambda: {mode: read_settings(mode, {}) for mode in OrchestrationMode.values}
    )


@dataclass(frozen=True)
class InferenceSettings:
    """The settings of ``INFERENCE_*``; docs/configuration.md explains each."""

    models_dir: Path
    node_name: str
    queue_strategy: str
    max_queue_size: int
    max_concurrent_requests: int
    max_concurrent_per_model: int
    default_priority: int
    ageing_seconds: float
    queue_timeout_seconds: float
    request_timeout_seconds: float
    stream_ttl_seconds: int
    heartbeat_seconds: float
    lease_seconds: float
    step_timeout_seconds: float
    load_stall_seconds: float
    max_body_bytes: int
    max_prompt_characters: int
    strict_parameters: bool
    max_replicas: int
    prompt_workers: int
    threads: int
    gpu_layers: int
    prefill_slowdown: float
    prefix_sharing: str
    embedding_cache_ttl_seconds: int
    embedding_cache_entries: int
    sse_heartbeat_seconds: float
    memory_budget_bytes: int
    keep_alive_seconds: float
    minimum_dwell_seconds: float
    maximum_wait_seconds: float
    preload_models: tuple[str, ...]
    config_preset: str
    model_roles: Mapping[str, tuple[str, ...]]
    demand_prediction: str
    cache_bytes: int
    cache: CacheSettings
    cache_billing: str
    cache_embedder: str
    semantic_ttl: int
    cache_keeps_unloaded: bool
    orchestration: OrchestrationSettings


def inference_settings() -> InferenceSettings:
    """Read at use, so that tests can override ``settings.INFERENCE``."""
    value: InferenceSettings = settings.INFERENCE
    return value
