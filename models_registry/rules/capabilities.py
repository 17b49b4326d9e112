"""What a model can be used for, as far as its file tells."""

import re
from collections.abc import Sequence
from typing import Final

# How vocabularies spell the marks of a hole (before, after, the hole itself), family by family:
# the names that llama.cpp looks for where a header names no token ids. A set counts if it is whole.
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
"""Tokens that a reader of a vocabulary looks out for; see ``knows_fim``."""

FOUND: Final = frozenset({"chat", "completion", "tools", "fim", "embedding"})
"""What a file tells; any other capability is somebody's word."""
# A template is a program from a model file: it is searched, not parsed.
_TOOLS: Final = re.compile(r"\btools\b")


def knows_fim(tokens: frozenset[bytes]) -> bool:
    """Whether a vocabulary with these of ``FIM_TOKENS`` can mark a hole to be filled in."""
    return any(tokens >= {token.encode() for token in family} for family in _FIM)


def capabilities_of(*, is_embedding: bool, chat_template: str, knows_fim: bool) -> list[str]:
    """``embedding``, or ``completion`` with ``chat``, ``tools``, ``fim`` where the file has them.

    Args:
        is_embedding: whether the model embeds texts; it then does nothing else.
        chat_template: of the file or of the version; "" for none.
        knows_fim: see above.
    """
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
    """What was found in a file, with another template.

    Args:
        found: as ``capabilities_of`` gave it.
        chat_template: that counts now.
    """
    return capabilities_of(
        is_embedding="embedding" in found, chat_template=chat_template, knows_fim="fim" in found
    )


def capabilities_in_force(declared: Sequence[str], found: Sequence[str]) -> list[str]:
    """What a model can do with one of its versions.

    Args:
        declared: what people say of the model.
        found: what the version's file says, which goes before; empty until it is there.
    """
    if not found:
        return list(declared)
    return [*found, *(word for word in declared if word not in FOUND and word not in found)]
