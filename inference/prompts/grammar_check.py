"""Compile and try out a grammar in the prompt process, under limits."""

import random
import time
from functools import lru_cache

import numpy as np

from inference.engine.backend import GrammarError
from inference.prompts import prompt_process

# Of processor time; in the host, all answers of the model wait while a grammar is compiled.
COMPILE_SECONDS = 0.25
HARD_COMPILE_SECONDS = 5.0
TRIALS = 4
TRIAL_TOKENS = 8
RECENT_GRAMMARS = 256


def check_grammar(path: str, grammar: str) -> None:
    """Compile a grammar for the vocabulary of ``path`` and generate the beginning of some answers.

    The trials find schemas that refer to nothing but themselves, and states with too many ways to
    continue, which compiling does not. Raises ``GrammarError`` or ``ModelLoadError``.
    """
    _check(path, prompt_process.identity_of(path), grammar)


@lru_cache(maxsize=RECENT_GRAMMARS)
def _check(path: str, _identity: prompt_process.Identity, grammar: str) -> None:
    compiler = prompt_process.open_vocabulary(path).grammar_compiler
    with prompt_process.hard_limit(HARD_COMPILE_SECONDS):
        started = time.process_time()
        compiler.matcher(grammar)
        if time.process_time() - started > COMPILE_SECONDS:
            raise GrammarError("it takes too long to compile")
        for seed in range(TRIALS):
            matcher = compiler.matcher(grammar)
            draw = random.Random(seed)  # noqa: S311
            for _ in range(TRIAL_TOKENS):
                candidates = np.flatnonzero(~matcher.excluded())
                matcher.consume([int(draw.choice(candidates))])
