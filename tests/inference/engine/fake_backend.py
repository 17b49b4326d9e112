"""A model without weights that passes the same contract as llama.cpp.

Its next token is a function of the whole token history in its KV cache, so any mix-up of sequences,
positions or cells changes the text.
"""

import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLTokenizer

from inference.engine.backend import DecodeOutcome, Span
from inference.engine.grammar import GrammarCompiler, GrammarMatcher
from inference.messages import SamplingParameters

END_OF_GENERATION = 256
VOCABULARY_SIZE = 257
REPEAT_PENALTY_TOKENS = 64


def letter_after(history: list[int]) -> int:
    """A lower-case letter that depends on every token before it."""
    return ord("a") + zlib.crc32(np.array(history, dtype=np.int32).tobytes()) % 26


@dataclass(eq=False)
class Cell:
    """One KV cell; sequences that share it hold the same object."""

    token_id: int


@dataclass
class FakeSampler:
    """Greedy at temperature 0, otherwise a seeded draw; remembers what penalties need."""

    sampling: SamplingParameters
    draw: random.Random
    prompt: list[int] = field(default_factory=list)
    output: list[int] = field(default_factory=list)
    matcher: GrammarMatcher | None = None

    def choose(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token, which the penalties count from now on. Raises ``GrammarError``."""
        logits = self._penalised(logits)
        if self.matcher is not None:
            self.matcher.restrict(logits)
        if self.sampling.temperature > 0:
            candidates = self._candidates(logits)
            weights = _softmax(logits[candidates] / self.sampling.temperature)
            token_id = int(self.draw.choices(candidates, weights=list(weights))[0])
        else:
            token_id = int(logits.argmax())
        if self.matcher is not None:
            self.matcher.consume([token_id])
        self.output.append(token_id)
        return token_id

    def _penalised(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits = logits.copy()
        for token_id, bias in self.sampling.logit_bias.items():
            logits[token_id] += bias
        penalty = self.sampling.repeat_penalty
        for token_id in set([*self.prompt, *self.output][-REPEAT_PENALTY_TOKENS:]):
            logits[token_id] *= penalty if logits[token_id] <= 0 else 1 / penalty
        for token_id, count in Counter(self.output).items():
            logits[token_id] -= count * self.sampling.frequency_penalty
            logits[token_id] -= self.sampling.presence_penalty
        return logits

    def _candidates(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Token ids that top-k, top-p and min-p leave, in llama.cpp's order, likeliest first."""
        best = np.argsort(-logits, kind="stable")
        if self.sampling.top_k:
            best = best[: self.sampling.top_k]
        if self.sampling.top_p < 1:
            shares = _softmax(logits[best])
            before = np.cumsum(shares) - shares
            best = best[(before < self.sampling.top_p) | (before == 0)]
        shares = _softmax(logits[best])
        return best[shares >= self.sampling.min_p * shares[0]]


@lru_cache(maxsize=1)
def grammar_compiler() -> GrammarCompiler:
    """Compiles grammars for the fake vocabulary."""
    vocabulary: Any = SimpleNamespace(
        is_tokenizer_wrapper=True,
        eos_token_id=END_OF_GENERATION,
        bos_token_id=None,
        tokens=[*(bytes([token_id]) for token_id in range(END_OF_GENERATION)), b"<end>"],
        special_token_ids=[END_OF_GENERATION],
    )
    return GrammarCompiler(LLTokenizer(vocabulary))


class FakeBackend:
    """Bytes as tokens; ``next_token(history)`` decides what the model says."""

    vocabulary_size = VOCABULARY_SIZE
    recurrent = False
    tiled_pairs = 0

    def __init__(
        self, kv_cells: int, next_token: Callable[[list[int]], int] = letter_after
    ) -> None:
        self.kv_cells = kv_cells
        self.next_token = next_token
        self.decoded_batches: list[list[Span]] = []
        self.samplers_open = 0
        self.closed = False
        self.ready_for_grammars = True
        self.while_decoding: Callable[[], None] | None = None
        self._stored: dict[int, list[Cell]] = {}
        self._logits: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
        self._aborting = threading.Event()

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        """Store the tokens; refuse gaps, which a real KV cache would silently compute wrongly."""
        self._aborting.clear()
        self.decoded_batches.append(spans)
        if self.used_cells + sum(len(span.token_ids) for span in spans) > self.kv_cells:
            return DecodeOutcome.NO_CELLS
        self._logits = {}
        for index, span in enumerate(spans):
            cells = self._stored.setdefault(span.sequence_id, [])
            if len(cells) != span.start:
                raise AssertionError(
                    f"sequence {span.sequence_id} continues at {span.start} but holds "
                    f"{len(cells)} tokens"
                )
            cells.extend(Cell(token_id) for token_id in span.token_ids)
            history = [cell.token_id for cell in cells]
            for output in range(span.outputs):
                logits = np.ones(VOCABULARY_SIZE, dtype=np.float32)
                seen = len(history) - span.outputs + 1 + output
                logits[self.next_token(history[:seen])] = 9.0
                self._logits[index, output] = logits
        if self.while_decoding is not None:
            self.while_decoding()
        return DecodeOutcome.ABORTED if self._aborting.is_set() else DecodeOutcome.DONE

    @property
    def used_cells(self) -> int:
        """Cells that any sequence holds."""
        return len({cell for cells in self._stored.values() for cell in cells})

    def is_ready_for_grammars(self) -> bool:
        """From the start, unless a test says otherwise."""
        return self.ready_for_grammars

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> FakeSampler:
        """A sampler that has seen ``prompt`` and ``output``. Raises ``GrammarError``."""
        matcher = None
        if grammar:
            matcher = grammar_compiler().matcher(grammar)
            matcher.consume(output)
        self.samplers_open += 1
        # A continued generation must not draw its first numbers again.
        seed = None if sampling.seed is None else sampling.seed + len(output)
        draw = random.Random(seed)
        return FakeSampler(sampling, draw, list(prompt), list(output), matcher)

    def free_sampler(self, sampler: FakeSampler) -> None:
        """Count it as given back."""
        self.samplers_open -= 1

    def sample(self, sampler: FakeSampler, span_index: int, output: int = 0) -> int:
        """The likeliest token after bias and penalties, or a draw."""
        return sampler.choose(self._logits[span_index, output])

    def logits(self, span_index: int, output: int = 0) -> npt.NDArray[np.float32]:
        """9 for the next token, 1 for the others, so that penalties, which divide, show."""
        return self._logits[span_index, output]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Hold the same cells; refuse what ``source`` does not have."""
        cells = self._stored.setdefault(target, [])
        shared = self._stored[source][start:end]
        if len(shared) != end - start or len(cells) < start:
            raise AssertionError(f"sequence {source} has no {start} to {end} for {target}")
        cells[start:end] = shared

    def truncate(self, sequence_id: int, length: int) -> None:
        """Drop what lies beyond ``length``."""
        kept = self._stored.get(sequence_id, [])[:length]
        if kept:
            self._stored[sequence_id] = kept
        else:
            self._stored.pop(sequence_id, None)

    def stored_tokens(self, sequence_id: int) -> int:
        """Tokens stored for a sequence."""
        return len(self._stored.get(sequence_id, []))

    def piece(self, token_id: int) -> bytes:
        """The byte itself; nothing for the end token."""
        return bytes([token_id]) if token_id < END_OF_GENERATION else b""

    def token_name(self, token_id: int) -> bytes:
        """The byte, or ``<end>``."""
        return self.piece(token_id) or b"<end>"

    def ends_generation(self, token_id: int) -> bool:
        """Only the end token does."""
        return token_id == END_OF_GENERATION

    def abort(self) -> None:
        """The decode in progress returns ABORTED."""
        self._aborting.set()

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)
