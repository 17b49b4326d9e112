"""Compile grammars for a vocabulary, and match the tokens of an answer against them.

llguidance reads the grammars: Lark with extensions such as ``%json`` (a JSON schema).
"""

import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inference.engine.backend import GrammarError

# Without this, text that the grammar fixes is tokenised again for every mask, in a time that grows
# with its length, without bound: a{999999999}. It stands at the end, so that line numbers in
# messages stay right and nothing in the grammar can revoke it.
_NO_FORCING = '\n%llguidance {"no_forcing": true}'
# A lexer state takes 1 to 2 kB, for every answer; llguidance's own limit is 250,000.
_LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
_RECENT_GRAMMARS = 32
_EXCERPT = re.compile(r"^(?: *\d+ \| |<)", re.MULTILINE)
# The position of everything that the API puts after "start: ": it does not help the client.
_FIRST_WORD = "at 1(8): "
_DEAD_END = "NoExtensionBias"
# CPU time that masks may take: an ambiguous grammar takes longer with every token, and all other
# answers of the model wait meanwhile.
_START_SECONDS = 0.1
_SECONDS_PER_TOKEN = 0.005


class GrammarCompiler:
    """Compiles grammars for one vocabulary and keeps the recent ones; for one thread."""

    def __init__(self, tokenizer: LLTokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._compiled = lru_cache(maxsize=_RECENT_GRAMMARS)(_compiled)

    def matcher(self, grammar: str) -> "GrammarMatcher":
        """Raises ``GrammarError`` with llguidance's message when the grammar cannot be compiled."""
        if self._tokenizer is None:  # no token of the vocabulary ends an answer
            raise GrammarError("the model has no token that ends an answer")
        prototype = self._compiled(self._tokenizer, grammar)
        return GrammarMatcher(prototype.deep_copy(), self._tokenizer.vocab_size)


class DeferredCompiler:
    """Creates a compiler in a thread of its own when the first grammar needs it."""

    # The table of a vocabulary takes about 5 µs a token: for 262,144 tokens longer than the rest of
    # loading a small model. Two thirds of that time hold the interpreter lock.
    def __init__(self, make_tokenizer: Callable[[], LLTokenizer | None]) -> None:
        self._make_tokenizer = make_tokenizer
        self._compiler: Future[GrammarCompiler] | None = None

    def is_ready(self) -> bool:
        """Whether ``get`` returns without waiting; if not, the creation is started."""
        return self._future().done()

    def get(self) -> GrammarCompiler:
        """Wait for the compiler. Raises ``GrammarError``."""
        try:
            return self._future().result()
        except ValueError as error:
            raise GrammarError(f"the model's vocabulary cannot be used for it: {error}") from error

    def finish(self) -> None:
        """Wait until nothing reads the vocabulary any more; then it may be freed."""
        if self._compiler is not None:
            wait([self._compiler])

    def _future(self) -> "Future[GrammarCompiler]":
        if self._compiler is None:
            executor = ThreadPoolExecutor(1, "grammars")
            self._compiler = executor.submit(lambda: GrammarCompiler(self._make_tokenizer()))
            executor.shutdown(wait=False)
        return self._compiler


class GrammarMatcher:
    """The position of one answer in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._seconds_left = _START_SECONDS

    def excluded(self) -> npt.NDArray[np.bool_]:
        """Mask of the tokens that may not come next, shape (vocabulary_size,); never all of them.

        Raises ``GrammarError`` when nothing can come next or the grammar exceeds its limits.
        """
        started = time.thread_time()
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        _raise_error_of(self._matcher)
        self._seconds_left += _SECONDS_PER_TOKEN - (time.thread_time() - started)
        if self._seconds_left < 0:
            raise GrammarError("it takes too long to follow")
        unpacked = np.unpackbits(~bits, count=self._vocabulary_size, bitorder="little")
        return unpacked.view(np.bool_)

    def restrict(self, logits: npt.NDArray[np.float32]) -> None:
        """Set the logits of excluded tokens to -inf, in place; raises as ``excluded`` does."""
        np.putmask(logits, self.excluded(), np.float32(-np.inf))

    def consume(self, token_ids: list[int]) -> None:
        # A complete answer that cannot continue takes nothing more, not even the end token.
        if not self._matcher.is_stopped():
            self._matcher.consume_tokens(token_ids)
            _raise_error_of(self._matcher)


def _raise_error_of(matcher: LLMatcher) -> None:
    if matcher.is_error():
        # Without the parser's state and lines of the grammar that the client did not write.
        reason = _EXCERPT.split(matcher.get_error(), maxsplit=1)[0]
        reason = reason.strip().removeprefix(_FIRST_WORD)
        raise GrammarError("no text matches it" if reason == _DEAD_END else reason)


def _compiled(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    matcher = LLMatcher(tokenizer, grammar + _NO_FORCING, log_level=0, limits=_LIMITS)
    _raise_error_of(matcher)
    warnings = matcher.get_grammar_warnings()
    if warnings:
        # These name parts of the grammar that llguidance would not enforce.
        raise GrammarError("; ".join(warnings))
    return matcher
