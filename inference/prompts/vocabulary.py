"""A model's tokeniser, loaded without its weights."""

import ctypes
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import llama_cpp
from llguidance import LLTokenizer

from inference.engine.grammar import GrammarCompiler
from inference.engine.llama.grammar_tokenizer import grammar_tokenizer
from inference.engine.llama.runtime import load_model, token_bytes
from inference.prompts.marks import is_unmistakable, marks_of
from models_registry.rules.chat_templates import texts_of_template

_CONTROL_ATTRIBUTES = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN

# A noncharacter that no vocabulary has.
_ANCHOR = "\ufdd3"


class Vocabulary:
    def __init__(self, path: Path) -> None:
        self._model = load_model(path, vocabulary_only=True)
        # Not at exit: the kernel frees the memory then.
        weakref.finalize(self, llama_cpp.llama_model_free, self._model).atexit = False
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self.adds_bos: bool = llama_cpp.llama_vocab_get_add_bos(self._vocabulary)
        self.bos_token = self._spelling(llama_cpp.llama_vocab_bos(self._vocabulary))
        self.eos_token = self._spelling(llama_cpp.llama_vocab_eos(self._vocabulary))

    def marks(self, template: str) -> tuple[str, ...]:
        """Spellings of the tokens that only ``template`` may write."""
        return marks_of(*self._special_tokens, texts_of_template(template))

    @cached_property
    def _special_tokens(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Spellings of control tokens, and of others that may be marks."""
        control, others = [], []
        for token_id in range(self.size):
            attributes = llama_cpp.llama_vocab_get_attr(self._vocabulary, token_id)
            if attributes & _CONTROL_ATTRIBUTES:
                control.append(self._spelling(token_id))
            elif attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED:
                others.append(self._spelling(token_id))
            elif llama_cpp.llama_vocab_get_text(self._vocabulary, token_id)[:1] == b"<":
                # Some files have marks among the normal tokens.
                spelling = self._spelling(token_id)
                if is_unmistakable(spelling):
                    others.append(spelling)
        return tuple(control), tuple(others)

    def grammar_tokenizer(self) -> LLTokenizer | None:
        """llguidance's form of the vocabulary; may not outlive this object."""
        return grammar_tokenizer(self._vocabulary)

    @cached_property
    def grammar_compiler(self) -> GrammarCompiler:
        """Compiles grammars; may not outlive this object."""
        return GrammarCompiler(self.grammar_tokenizer())

    def tokenize(self, text: str, *, add_special: bool, parse_control: bool) -> list[int]:
        """Token ids of ``text``; ``parse_control`` reads control tokens that it spells as such.

        ``add_special`` adds tokens that the model expects around a text, such as BOS.
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

    def tokenize_pieces(
        self, pieces: Sequence[str], *, add_special: bool, parse_control: bool
    ) -> list[int]:
        """Token ids of consecutive texts, with no token across two of them."""
        if len(pieces) < 2:
            return self.tokenize(
                "".join(pieces), add_special=add_special, parse_control=parse_control
            )
        around = self.tokenize("", add_special=add_special, parse_control=False)
        before = int(around[:1] == [llama_cpp.llama_vocab_bos(self._vocabulary)])
        first, *others = pieces
        token_ids = self.tokenize(first, add_special=False, parse_control=parse_control)
        for piece in others:
            token_ids += self._continuation(piece, parse_control)
        return [*around[:before], *token_ids, *around[before:]]

    def _continuation(self, text: str, parse_control: bool) -> list[int]:
        """Token ids of a text in mid-line, where some tokenisers would insert a blank."""
        before = self._anchor_ids
        if before:
            ids = self.tokenize(_ANCHOR + text, add_special=False, parse_control=parse_control)
            if ids[: len(before)] == before:
                return ids[len(before) :]
        return self.tokenize(text, add_special=False, parse_control=parse_control)

    @cached_property
    def _anchor_ids(self) -> list[int]:
        """Token ids of a character that never merges with the next one; [] if not needed."""
        kind = llama_cpp.llama_vocab_type(self._vocabulary)
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM:
            # Without byte tokens llama.cpp aborts on a character that is not in the vocabulary.
            needed = any(
                llama_cpp.llama_vocab_get_attr(self._vocabulary, token_id)
                & llama_cpp.LLAMA_TOKEN_ATTR_BYTE
                for token_id in range(self.size)
            )
        else:
            needed = kind == llama_cpp.LLAMA_VOCAB_TYPE_UGM
        return self.tokenize(_ANCHOR, add_special=False, parse_control=False) if needed else []

    def detokenize(self, token_ids: list[int]) -> str:
        """Text of ``token_ids``, control tokens included. Raises ``ValueError`` for unknown ids."""
        for token_id in token_ids:
            if not 0 <= token_id < self.size:
                raise ValueError(
                    f"{token_id} is not a token id of this model (0 to {self.size - 1})."
                )
        return b"".join(map(self._bytes, token_ids)).decode("utf-8", "replace")

    def _spelling(self, token_id: int) -> str:
        return self._bytes(token_id).decode("utf-8", "replace")

    def _bytes(self, token_id: int) -> bytes:
        return token_bytes(self._vocabulary, token_id, special=True) if token_id >= 0 else b""
