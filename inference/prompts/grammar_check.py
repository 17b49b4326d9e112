"""What runs in the prompt process for a grammar: compile it and try it, under limits."""

import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from inference.engine.backend import GrammarError
from inference.prompts import worker

if TYPE_CHECKING:
    from inference.engine.grammar import GrammarMatcher

# Of processor time; in the host all answers of the model wait while a grammar is compiled.
COMPILE_SECONDS = 0.25
HARD_COMPILE_SECONDS = 5.0
REHEARSALS = 4
REHEARSED_TOKENS = 8
RECENT_GRAMMARS = 256


def check_grammar(path: str, grammar: str) -> None:
    """Compile a grammar for the vocabulary of ``path`` and begin a few answers that match it.

    The beginnings find what compiling does not: a schema that refers to nothing but itself, a
    state with too many ways to go on.

    Raises:
        GrammarError: no answer can be held to it, for the reason given.
        ModelLoadError: the vocabulary cannot be read.
    """
    _check(path, worker.identity_of(path), grammar)


@lru_cache(maxsize=RECENT_GRAMMARS)
def _check(path: str, _identity: worker.Identity, grammar: str) -> None:
    compiler = worker.open_vocabulary(path).grammar_compiler
    with worker.hard_limit(HARD_COMPILE_SECONDS):
        started = time.process_time()
        compiler.matcher(grammar)
        if time.process_time() - started > COMPILE_SECONDS:
            raise GrammarError("it takes too long to compile")
        for seed in range(REHEARSALS):
            _rehearse(compiler.matcher(grammar), seed)


def _rehearse(matcher: "GrammarMatcher", seed: int) -> None:
    """Take a few tokens at random, the same for the same seed."""
    draw = random.Random(seed)  # noqa: S311
    for _ in range(REHEARSED_TOKENS):
        candidates = np.flatnonzero(~matcher.excluded())
        matcher.consume([int(draw.choice(candidates))])
