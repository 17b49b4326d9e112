"""The interface between the engine and a model runtime."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.messages import SamplingParameters


class BackendError(Exception):
    """The runtime failed and its state is unknown; the host must end."""


class ModelLoadError(Exception):
    pass


class GrammarError(Exception):
    """The grammar of one generation cannot be followed."""


class DecodeOutcome(Enum):
    """The result of a decode; unless it is DONE nothing of the batch counts as computed."""

    DONE = "done"
    NO_CELLS = "no cells"
    ABORTED = "aborted"


@dataclass(frozen=True)
class Span:
    """Consecutive tokens of one sequence in a step batch, from position ``start`` on."""

    sequence_id: int
    start: int
    token_ids: list[int]
    outputs: int  # logits are kept for this many last tokens


class Backend(Protocol):
    """A loaded model with a KV cache, used by one thread; only ``abort`` may come from another."""

    vocabulary_size: int
    # A recurrent model keeps a state in place of cells: a sequence can be neither cut nor shared.
    recurrent: bool
    # A prompt with at least this many pairs of a query and a cell visible to it is computed in a
    # batch without answers, because attention works in tiles: a cell that one query of a tile
    # attends to costs time for the whole tile. 0: never.
    tiled_pairs: int

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        """Compute ``spans`` in one batch. Raises ``BackendError``."""

    def is_ready_for_grammars(self) -> bool:
        """Whether ``new_sampler`` takes a grammar without waiting; if not, preparation starts."""

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> Any:
        """A sampler whose penalties count ``prompt`` and ``output``. Raises ``GrammarError``.

        With a grammar the whole answer, ``output`` and all that follows, must match it.
        """

    def free_sampler(self, sampler: Any) -> None: ...

    def sample(self, sampler: Any, span_index: int, output: int = 0) -> int:
        """The token that follows an output of a span, both by index. Raises ``GrammarError``."""

    def logits(self, span_index: int, output: int = 0) -> npt.NDArray[np.float32]:
        """Raw logits, shape (vocabulary_size,), valid until the next decode or ``sample``."""

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Replace the cells of ``target`` at positions ``start`` to ``end`` by those of ``source``.

        Nothing is copied; a cell is freed when no sequence has it any more.
        """

    def truncate(self, sequence_id: int, length: int) -> None:
        """Free a sequence's KV cells from position ``length`` on."""

    def stored_tokens(self, sequence_id: int) -> int:
        """KV cells of a sequence, as the runtime counts them."""

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token; none for control tokens."""

    def token_name(self, token_id: int) -> bytes:
        """The bytes of a token with control tokens spelled out, for log-probabilities."""

    def ends_generation(self, token_id: int) -> bool: ...

    def abort(self) -> None:
        """Make a decode in progress return soon with ABORTED; safe from any thread."""

    def close(self) -> None:
        """Free the model; not while a decode runs."""
