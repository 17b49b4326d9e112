"""What the engine asks of a model runtime; llama.cpp and a fake fulfil it."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.messages import SamplingParameters


class BackendError(Exception):
    """The runtime failed in a way that leaves its state unknown; the host must end."""


class ModelLoadError(Exception):
    """The model file could not be loaded; the message says why."""


class GrammarError(Exception):
    """The grammar of one generation cannot be followed further; the others are unharmed."""


class DecodeOutcome(Enum):
    """How a decode ended; after anything but DONE nothing of the batch counts as computed."""

    DONE = "done"
    NO_CELLS = "no cells"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one sequence in a step batch.

    ``start`` is the position of the first token; logits are kept for the last ``outputs`` tokens.
    """

    sequence_id: int
    start: int
    token_ids: list[int]
    outputs: int


class Backend(Protocol):
    """A loaded model with a KV cache, used by one thread; only ``abort`` may come from another."""

    vocabulary_size: int
    recurrent: bool
    """The model keeps a state in place of cells: a sequence can be neither cut nor shared."""
    tiled_pairs: int
    """A prompt with so many pairs of a query and a cell that it sees gets a batch without answers,
    for it is attended in tiles: what one query of a tile looks at costs time for all. 0: never."""

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        """Compute ``spans`` in one batch. Raises ``BackendError`` when the runtime breaks."""
        ...

    def is_ready_for_grammars(self) -> bool:
        """Whether a sampler with a grammar is to be had at once; if not, it is prepared.

        ``new_sampler`` waits for that.
        """
        ...

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> Any:
        """A sampler for one sequence, told of the tokens that its penalties look back on.

        With a grammar the whole answer, ``output`` and what is sampled, matches it, and only a
        whole answer is ended. Raises ``GrammarError`` when that cannot be.
        """
        ...

    def free_sampler(self, sampler: Any) -> None:
        """Give a sampler back."""
        ...

    def sample(self, sampler: Any, span_index: int, output: int = 0) -> int:
        """The token that follows output ``output`` of span ``span_index`` of the last decode.

        Raises ``GrammarError`` when the sampler's grammar cannot be followed further.
        """
        ...

    def logits(self, span_index: int, output: int = 0) -> npt.NDArray[np.float32]:
        """Raw logits of one of a span's outputs, the first is 0; valid until the next decode.

        Shape (vocabulary_size,). Taken before ``sample``, which may change them.
        """
        ...

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target`` have the KV cells of ``source`` at positions ``start`` to ``end``.

        They take the place of what ``target`` has there. Nothing is copied; a cell is freed when
        no sequence has it any more.
        """
        ...

    def truncate(self, sequence_id: int, length: int) -> None:
        """Forget a sequence's KV cells from position ``length`` on; 0 forgets it."""
        ...

    def stored_tokens(self, sequence_id: int) -> int:
        """KV cells that a sequence holds, as the runtime counts them."""
        ...

    def piece(self, token_id: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none."""
        ...

    def token_name(self, token_id: int) -> bytes:
        """The bytes of a token, with control tokens spelled out, for log-probabilities."""
        ...

    def ends_generation(self, token_id: int) -> bool:
        """Whether the model ends its answer with this token."""
        ...

    def abort(self) -> None:
        """Make a decode in progress return soon with ABORTED; safe from any thread."""
        ...

    def close(self) -> None:
        """Free the model; not while a decode runs."""
        ...
