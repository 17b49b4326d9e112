"""Hints: parameters that are accepted but have no effect. Pure.

They concern storing, placing, pricing or display. A response names the hints that it ignored.
"""

from collections.abc import Iterator
from typing import Any, Final

# By the path of the object that holds them.
_HINTS: Final[dict[str, frozenset[str]]] = {
    "": frozenset(
        [
            # OpenAI
            *("metadata", "store", "prompt_cache_key", "prompt_cache_retention"),
            *("prompt_cache_options", "promptCacheKey", "safety_identifier", "service_tier"),
            *("verbosity", "prediction", "client_metadata", "include", "context_management"),
            # llama.cpp and Ollama
            *("cache_prompt", "id_slot", "timings_per_token", "return_progress", "return_tokens"),
            *("post_sampling_probs", "response_fields", "samplers", "draft_model"),
            *("num_ctx", "num_batch", "num_gpu", "num_thread", "num_keep", "use_mmap", "use_mlock"),
            # OpenRouter, vLLM and others
            *("cache_control", "detail", "provider", "route", "transforms", "require_parameters"),
            *("usage", "reasoning", "thinking", "think", "thinking_budget", "include_reasoning"),
            *("reasoning_format", "reasoning_summary"),
        ]
    ),
    "stream_options": frozenset(["include_obfuscation", "continuous_usage_stats"]),
    "messages": frozenset(
        [
            *("cache_control", "annotations", "reasoning_details", "reasoning_opaque"),
            *("thinking_blocks", "provider_specific_fields", "extra_content", "id", "index"),
            "created",
        ]
    ),
    "messages.content": frozenset(
        ["cache_control", "detail", "annotations", "signature", "prompt_cache_breakpoint", "id"]
    ),
    "messages.tool_calls": frozenset(
        ["cache_control", "extra_content", "provider_specific_fields", "thought_signature"]
    ),
    "tools": frozenset(["cache_control", "defer_loading"]),
    "tools.function": frozenset(["cache_control", "defer_loading"]),
}
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
# Further values without effect.
_DEFAULTS: Final[dict[str, tuple[Any, ...]]] = {
    "id_slot": (-1,),
    "include_obfuscation": (False,),
    "return_progress": (False,),
    "return_tokens": (False,),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "timings_per_token": (False,),
}


def without_hints(value: Any, path: str = "") -> Any:
    if path not in _HINTS or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [without_hints(item, path) if isinstance(item, dict) else item for item in value]
    hints = _HINTS[path]
    return {
        name: without_hints(item, child_path(path, name))
        for name, item in value.items()
        if name not in hints
    }


def hints_in(raw: Any) -> list[str]:
    """Dotted names of the hints in a request body that have a value, each once."""
    return list(dict.fromkeys(_found(raw, "")))


def _found(value: Any, path: str) -> Iterator[str]:
    if path not in _HINTS:
        return
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _found(item, path)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _HINTS[path]:
                yield from _found(item, child_path(path, name))
            elif item not in (*_EMPTY, *_DEFAULTS.get(name, ())):
                yield child_path(path, name)


def child_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
