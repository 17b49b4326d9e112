"""What a model can be used for, as far as its file tells."""

import re
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
