"""Check from its header whether llama.cpp can run a model."""

from collections.abc import Collection
from typing import Final

# Architectures of our llama.cpp that the package gguf, released separately, does not list yet.
NEWER_THAN_GGUF: Final = frozenset(
    {
        *("bailingmoe3", "cohere2moe", "deepseek32", "deepseek4", "dflash", "dots3note", "eagle3"),
        *("gemma4-assistant", "glm5-next", "granite_swa", "graniteswitch", "hrm_text", "hy_v3"),
        *("hy_v4", "kimi-k3", "laguna", "maple", "mellum", "minimax-01", "minimax-m3"),
        *("muse-glimmer", "nanbeige", "pockettts", "qwen3tts", "qwen4exp", "spark2_5", "talkie"),
    }
)
# A recurrent model has one of these keys.
_RECURRENT_KEYS: Final = ("ssm.state_size", "wkv.head_size")
# The image encoder of a vision model.
_NO_LANGUAGE_MODEL: Final = frozenset({"clip"})


def is_known(architecture: str) -> bool:
    # Imported late: it imports NumPy (0.2 s), which only reading a header needs.
    from gguf import MODEL_ARCH_NAMES

    known = NEWER_THAN_GGUF.union(MODEL_ARCH_NAMES.values()) - _NO_LANGUAGE_MODEL
    return architecture in known


def reason_against(
    architecture: str,
    *,
    tokenizer: str | None,
    vocab_size: int,
    head_count: int,
    keys: Collection[str],
) -> str:
    """Why llama.cpp cannot run a model with these values and keys in its header; "" if it can."""
    if not is_known(architecture):
        return f"Its architecture {architecture!r} is unknown to this release's llama.cpp."
    if tokenizer in (None, "none", "no_vocab"):
        return "It has no tokeniser (tokenizer.ggml.model): it cannot read a text."
    if not vocab_size:
        return "Its vocabulary (tokenizer.ggml.tokens) is empty."
    is_recurrent = any(f"{architecture}.{key}" in keys for key in _RECURRENT_KEYS)
    if not head_count and not is_recurrent:
        return f"It has no attention heads ({architecture}.attention.head_count)."
    return ""
