"""Capabilities of a model, derived from its file."""

import re
from collections.abc import Sequence
from typing import Final

# Fill-in-the-middle tokens (prefix, suffix, middle) of each model family, as llama.cpp looks for
# them where a header names no token ids. A family counts only if all three are there.
_FIM: Final[tuple[tuple[str, str, str], ...]] = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<PRE>", "<SUF>", "<MID>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # CodeLlama
    # DeepSeek
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM
)  # fmt: skip
FIM_TOKENS: Final = frozenset(token.encode() for family in _FIM for token in family)
FILE_CAPABILITIES: Final = frozenset({"chat", "completion", "tools", "fim", "embedding"})
# A template is a program from a model file: it is searched, not parsed.
_TOOLS: Final = re.compile(r"\btools\b")


def knows_fim(tokens: frozenset[bytes]) -> bool:
    return any(tokens >= {token.encode() for token in family} for family in _FIM)


def capabilities_of(*, is_embedding: bool, chat_template: str, knows_fim: bool) -> list[str]:
    """``embedding`` alone, or ``completion`` with ``chat``, ``tools`` and ``fim`` as supported."""
    if is_embedding:
        return ["embedding"]
    found = {
        "chat": bool(chat_template),
        "completion": True,
        "tools": bool(_TOOLS.search(chat_template)),
        "fim": knows_fim,
    }
    return [name for name, has_it in found.items() if has_it]


def capabilities_with(found: Sequence[str], chat_template: str) -> list[str]:
    """The capabilities ``found`` in a file, adjusted to another chat template."""
    return capabilities_of(
        is_embedding="embedding" in found, chat_template=chat_template, knows_fim="fim" in found
    )


def capabilities_in_force(declared: Sequence[str], found: Sequence[str]) -> list[str]:
    """Capabilities of a model with one of its versions.

    Args:
        declared: entered by people for the model.
        found: read from the version's file, empty until it is there; they take precedence.
    """
    if not found:
        return list(declared)
    return [
        *found,
        *(word for word in declared if word not in FILE_CAPABILITIES and word not in found),
    ]
