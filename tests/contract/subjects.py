"""Facts about a backend, real or fake, for the contract tests."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from inference.engine.backend import Backend, DecodeOutcome, Span
from inference.engine.config import EngineConfig
from inference.messages import SamplingParameters
from inference.prompts.vocabulary import Vocabulary
from tests.inference.engine.fake_backend import END_OF_GENERATION, FakeBackend

MAX_SEQUENCES = 8
KEPT_SEQUENCES = EngineConfig.kept_sequences
STEP_TOKENS = 512
GREEDY = SamplingParameters(temperature=0.0)


@dataclass(frozen=True)
class Subject:
    """A backend under contract.

    ``end_token`` ends an answer; ``abort_during`` runs a decode and aborts it on its way.
    """

    backend: Backend
    kv_cells: int
    encode: Callable[[str], list[int]]
    end_token: int
    abort_during: Callable[[Callable[[], DecodeOutcome]], DecodeOutcome]

    def prefill(self, slot: int, tokens: list[int], start: int = 0) -> None:
        """Store tokens; the logits after the last are those of span 0."""
        span = Span(slot, start, tokens, outputs=1)
        assert self.backend.decode([span]) is DecodeOutcome.DONE

    def greedy(self, slot: int, tokens: list[int], count: int) -> list[int]:
        """The likeliest continuation, a token a step, in an empty slot."""
        chosen: list[int] = []
        self.prefill(slot, tokens)
        while True:
            chosen.append(int(self.backend.logits(0).argmax()))
            if len(chosen) == count:
                return chosen
            self.prefill(slot, chosen[-1:], start=len(tokens) + len(chosen) - 1)

    def draws(self, sampling: SamplingParameters, count: int, output: list[int]) -> list[int]:
        """Tokens that a new sampler draws, one after another, from the logits of span 0."""
        sampler = self.backend.new_sampler(sampling, [], output)
        try:
            return [self.backend.sample(sampler, 0) for _ in range(count)]
        finally:
            if sampler is not None:
                self.backend.free_sampler(sampler)

    def forget_all(self) -> None:
        """Empty every slot."""
        for slot in range(MAX_SEQUENCES + KEPT_SEQUENCES):
            self.backend.truncate(slot, 0)


def fake_subject(kv_cells: int) -> Subject:
    """The fake, whose tokens are bytes."""
    backend = FakeBackend(kv_cells)

    def abort_during(decode: Callable[[], DecodeOutcome]) -> DecodeOutcome:
        backend.while_decoding = backend.abort
        try:
            return decode()
        finally:
            backend.while_decoding = None

    return Subject(backend, kv_cells, _bytes_of, END_OF_GENERATION, abort_during)


def llama_subject(backend: Backend, kv_cells: int, vocabulary: Vocabulary) -> Subject:
    """llama.cpp; another thread aborts again and again until the decode has come back."""

    def abort_during(decode: Callable[[], DecodeOutcome]) -> DecodeOutcome:
        returned = threading.Event()

        def keep_aborting() -> None:
            while not returned.wait(0.002):
                backend.abort()

        aborter = threading.Thread(target=keep_aborting)
        aborter.start()
        try:
            return decode()
        finally:
            returned.set()
            aborter.join()

    def encode(text: str) -> list[int]:
        return vocabulary.tokenize(text, add_special=False, parse_control=False)

    (end_token,) = vocabulary.tokenize("<|im_end|>", add_special=False, parse_control=True)
    return Subject(backend, kv_cells, encode, end_token, abort_during)


def _bytes_of(text: str) -> list[int]:
    return list(text.encode())
