"""Hints: parameters of clients that are accepted without effect. Pure.

Leaving a hint out cannot change which answers are right: it is about storing, placing, pricing or
showing. Each answer names the hints of its request, and INFERENCE_STRICT_PARAMETERS refuses them.
"""

from collections.abc import Iterator
from typing import Any, Final

# By the place of the object that holds them.
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
# Values that ask for nothing beyond what is done anyway, besides null and what is empty.
_NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
_DEFAULTS: Final[dict[str, tuple[Any, ...]]] = {
    "id_slot": (-1,),
    "include_obfuscation": (False,),
    "return_progress": (False,),
    "return_tokens": (False,),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "timings_per_token": (False,),
}


def without_hints(raw: dict[str, Any]) -> dict[str, Any]:
    """A decoded request body without its hints."""
    return _kept(raw, "")


def hints_in(raw: Any) -> list[str]:
    """Hints in a decoded request body that ask for something: dotted names, each once, in order."""
    return list(dict.fromkeys(_found(raw, "")))


def _kept(value: Any, place: str) -> Any:
    if place not in _HINTS or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_kept(item, place) if isinstance(item, dict) else item for item in value]
    hints = _HINTS[place]
    return {
        name: _kept(item, _below(place, name)) for name, item in value.items() if name not in hints
    }


def _found(value: Any, place: str) -> Iterator[str]:
    if place not in _HINTS:
        return
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield from _found(item, place)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _HINTS[place]:
                yield from _found(item, _below(place, name))
            elif item not in (*_NOTHING, *_DEFAULTS.get(name, ())):
                yield _below(place, name)


def _below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
