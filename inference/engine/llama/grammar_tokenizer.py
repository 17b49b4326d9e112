import ctypes
from typing import Any

import llama_cpp
from llguidance import LLTokenizer

from inference.engine.llama.runtime import token_bytes

# llguidance's mark of a control token, to tell it from the same text: UTF-8 has no such byte.
_CONTROL_MARK = b"\xff"


def grammar_tokenizer(vocabulary: Any) -> LLTokenizer | None:
    """Convert a llama.cpp vocabulary for llguidance, at about 5 µs a token.

    The model of ``vocabulary`` must live as long as the result, which is None for a vocabulary
    without a token that ends an answer.
    """
    tokens: list[bytes] = []
    ends: list[int] = []
    for token_id in range(llama_cpp.llama_vocab_n_tokens(vocabulary)):
        spelling = token_bytes(vocabulary, token_id, special=True)
        attributes = llama_cpp.llama_vocab_get_attr(vocabulary, token_id)
        is_end = llama_cpp.llama_vocab_is_eog(vocabulary, token_id)
        if is_end:
            ends.append(token_id)
        # Tokens that are not part of an answer's text (``<tool_call>`` is part of it) or end it;
        # some of the latter are plain (``</s>``). ``llguidance.llamacpp`` decides differently.
        is_control = is_end or attributes & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
        tokens.append(_CONTROL_MARK + spelling if is_control else spelling)
    if not ends:
        return None
    tokenize = ctypes.cast(llama_cpp.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
    return LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=tokens, vocab_ptr=vocabulary, tokenize_fptr=tokenize, eos_token=ends
    )
