"""What an answer must match: grammars compiled for a vocabulary, and where an answer stands in one.

llguidance reads them: Lark with its extensions, of which ``%json`` (a JSON schema) is one.
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

# Without it, text that the grammar leaves no choice about is put into tokens anew for every mask,
# in time that grows with its length, without bound: a{999999999}. It stands at the end to leave
# the line numbers in messages as they are, and nothing before it can take it back.
_NO_FORCING = '\n%llguidance {"no_forcing": true}'
# The states of a lexer take 1 to 2 kB each, for every answer; llguidance's own limit is 250,000.
_LIMITS = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
_RECENT_GRAMMARS = 32
_EXCERPT = re.compile(r"^(?: *\d+ \| |<)", re.MULTILINE)
# Where everything stands that the API puts after "start: ": no help to the client.
_FIRST_WORD = "at 1(8): "
_DEAD_END = "NoExtensionBias"
# Processor time that masks may take: an ambiguous grammar takes longer with every token. All other
# answers of the model wait meanwhile.
_START_SECONDS = 0.1
_SECONDS_PER_TOKEN = 0.005


class GrammarCompiler:
    """Compiles grammars for one vocabulary and keeps the recent ones; for one thread."""

    def __init__(self, tokenizer: LLTokenizer | None) -> None:
        """``tokenizer`` is None for a vocabulary that no answer can be matched in."""
        self._tokenizer = tokenizer
        self._compiled = lru_cache(maxsize=_RECENT_GRAMMARS)(_compiled)

    def matcher(self, grammar: str) -> "GrammarMatcher":
        """The beginning of an answer that must match ``grammar``.

        Raises:
            GrammarError: it cannot be compiled; the message is llguidance's.
        """
        if self._tokenizer is None:
            raise GrammarError("the model has no token that ends an answer")
        prototype = self._compiled(self._tokenizer, grammar)
        return GrammarMatcher(prototype.deep_copy(), self._tokenizer.vocab_size)


class DeferredCompiler:
    """A compiler that is made in a thread of its own once the first grammar asks for it.

    The table of a vocabulary takes about 5 µs a token: for 262,144 tokens longer than all else of
    loading a small model. Two thirds of that hold the interpreter lock.
    """

    def __init__(self, make_tokenizer: Callable[[], LLTokenizer | None]) -> None:
        self._make_tokenizer = make_tokenizer
        self._compiler: Future[GrammarCompiler] | None = None

    def is_ready(self) -> bool:
        """Whether it can be had without waiting; if not, it is being made from now on."""
        return self._future().done()

    def get(self) -> GrammarCompiler:
        """The compiler, waited for. Raises ``GrammarError`` where none can be made."""
        try:
            return self._future().result()
        except ValueError as error:
            raise GrammarError(f"the model's vocabulary cannot be used for it: {error}") from error

    def finish(self) -> None:
        """Wait until nothing reads the vocabulary any more, which may be freed then."""
        if self._compiler is not None:
            wait([self._compiler])

    def _future(self) -> "Future[GrammarCompiler]":
        if self._compiler is None:
            executor = ThreadPoolExecutor(1, "grammars")
            self._compiler = executor.submit(lambda: GrammarCompiler(self._make_tokenizer()))
            executor.shutdown(wait=False)
        return self._compiler


class GrammarMatcher:
    """How far one answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._seconds_left = _START_SECONDS

    def excluded(self) -> npt.NDArray[np.bool_]:
        """Which tokens may not come next, shape (vocabulary_size,); never all of them.

        After a whole answer that cannot go on only those that end a generation are left.

        Raises:
            GrammarError: nothing can come next, or the grammar exceeds its limits.
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
        """Set the logits of all tokens that may not come next to -inf, in place.

        Args:
            logits: shape (vocabulary_size,).

        Raises:
            GrammarError: as ``excluded`` does.
        """
        np.putmask(logits, self.excluded(), np.float32(-np.inf))

    def consume(self, token_ids: list[int]) -> None:
        """Take the next tokens of the answer.

        Raises:
            GrammarError: they do not match.
        """
        # A whole answer that cannot go on takes nothing more, not even the token that ends it.
        if not self._matcher.is_stopped():
            self._matcher.consume_tokens(token_ids)
            _raise_error_of(self._matcher)


def _raise_error_of(matcher: LLMatcher) -> None:
    if matcher.is_error():
        # Without the state of the parser and the lines of the grammar, some of which are ours.
        reason = _EXCERPT.split(matcher.get_error(), maxsplit=1)[0]
        reason = reason.strip().removeprefix(_FIRST_WORD)
        raise GrammarError("no text matches it" if reason == _DEAD_END else reason)


def _compiled(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    matcher = LLMatcher(tokenizer, grammar + _NO_FORCING, log_level=0, limits=_LIMITS)
    _raise_error_of(matcher)
    warnings = matcher.get_grammar_warnings()
    if warnings:
        # Of what llguidance read and will not hold the answer to.
        raise GrammarError("; ".join(warnings))
    return matcher
