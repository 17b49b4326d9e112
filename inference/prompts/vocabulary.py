"""A model's tokeniser, loaded without its weights."""

import ctypes
import weakref
from functools import cached_property
from pathlib import Path

import llama_cpp
from llguidance import LLTokenizer

from inference.engine.grammar import GrammarCompiler
from inference.engine.llama_grammar import grammar_tokenizer
from inference.engine.llama_runtime import load_model, token_bytes

_CONTROL_ATTRIBUTES = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN


class Vocabulary:
    """Tokenises and detokenises for one model file."""

    def __init__(self, path: Path) -> None:
        """Load ``path``'s vocabulary. Raises ``ModelLoadError``."""
        self._model = load_model(path, vocabulary_only=True)
        # At the end of the process the kernel does it.
        weakref.finalize(self, llama_cpp.llama_model_free, self._model).atexit = False
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(self._vocabulary)
        self.bos_token = self._spelling(llama_cpp.llama_vocab_bos(self._vocabulary))
        self.eos_token = self._spelling(llama_cpp.llama_vocab_eos(self._vocabulary))

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Spellings that the tokeniser would read as control tokens."""
        spellings = (
            self._spelling(token_id)
            for token_id in range(self.size)
            if llama_cpp.llama_vocab_get_attr(self._vocabulary, token_id) & _CONTROL_ATTRIBUTES
        )
        return tuple(spelling for spelling in spellings if spelling)

    def grammar_tokenizer(self) -> LLTokenizer | None:
        """The vocabulary for matching, as ``llama_grammar`` makes it; may not outlive this."""
        return grammar_tokenizer(self._vocabulary)

    @cached_property
    def grammar_compiler(self) -> GrammarCompiler:
        """For matching answers with grammars; may not outlive this."""
        return GrammarCompiler(self.grammar_tokenizer())

    def tokenize(self, text: str, *, add_special: bool, parse_control: bool) -> list[int]:
        """Token ids of ``text``.

        Args:
            text: any text without lone surrogates.
            add_special: add what the model expects around a text, such as a BOS token.
            parse_control: read control tokens spelled out in the text as such.
        """
        data = text.encode()
        capacity = len(data) + 8
        tokens = (ctypes.c_int32 * capacity)()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), tokens, capacity, add_special, parse_control
        )
        if count < 0:
            raise ValueError(f"llama_tokenize wanted {-count} tokens for {len(data)} bytes")
        return list(tokens[:count])

    def detokenize(self, token_ids: list[int]) -> str:
        """Text of ``token_ids``, control tokens spelled out.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        for token_id in token_ids:
            if not 0 <= token_id < self.size:
                raise ValueError(
                    f"token id {token_id} is outside the vocabulary (0 to {self.size - 1})"
                )
        data = b"".join(self._piece(token_id, special=True) for token_id in token_ids)
        return data.decode("utf-8", "replace")

    def _spelling(self, token_id: int) -> str:
        return self._piece(token_id, special=True).decode("utf-8", "replace")

    def _piece(self, token_id: int, *, special: bool) -> bytes:
        if token_id < 0:
            return b""
        return token_bytes(self._vocabulary, token_id, special=special)
