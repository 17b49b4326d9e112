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
    """The model could not be loaded; the message gives the reason."""


class GrammarError(Exception):
    """The grammar of one generation cannot be followed; other generations are not affected."""


class DecodeOutcome(Enum):
    """The result of a decode; nothing of the batch counts as computed unless it is DONE."""

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
    # A recurrent model keeps a state in place of cells: a sequence can be neither cut nor shared.
    recurrent: bool
    # A prompt with at least this many pairs of a query and a cell visible to it is computed in a
    # batch without answers, because attention works in tiles: a cell that one query of a tile
    # attends to costs time for the whole tile. 0: never.
    tiled_pairs: int

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        """Compute ``spans`` in one batch. Raises ``BackendError`` when the runtime fails."""

    def is_ready_for_grammars(self) -> bool:
        """Whether ``new_sampler`` takes a grammar without waiting; if not, preparation starts."""

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> Any:
        """A sampler for one sequence; its penalties count the tokens of ``prompt`` and ``output``.

        With a grammar the whole answer, ``output`` and all that follows, matches it, and the answer
        can end only where the grammar is complete. Raises ``GrammarError`` when that is impossible.
        """

    def free_sampler(self, sampler: Any) -> None: ...

    def sample(self, sampler: Any, span_index: int, output: int = 0) -> int:
        """The token that follows output ``output`` of span ``span_index`` of the last decode.

        Raises ``GrammarError`` when the sampler's grammar cannot be followed further.
        """

    def logits(self, span_index: int, output: int = 0) -> npt.NDArray[np.float32]:
        """Raw logits of one of a span's outputs, the first is 0; valid until the next decode.

        Shape (vocabulary_size,). Call before ``sample``, which may change them.
        """

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Let ``target`` have the KV cells of ``source`` at positions ``start`` to ``end``.

        They replace the cells of ``target`` there. Nothing is copied; a cell is freed when no
        sequence has it any more.
        """

    def truncate(self, sequence_id: int, length: int) -> None:
        """Free a sequence's KV cells from position ``length`` on."""

    def stored_tokens(self, sequence_id: int) -> int:
        """KV cells that a sequence holds, as the runtime counts them."""

    def piece(self, token_id: int) -> bytes:
        """The bytes of a token; none for control tokens."""

    def token_name(self, token_id: int) -> bytes:
        """The bytes of a token with control tokens spelled out, for log-probabilities."""

    def ends_generation(self, token_id: int) -> bool: ...

    def abort(self) -> None:
        """Make a decode in progress return soon with ABORTED; safe from any thread."""

    def close(self) -> None:
        """Free the model; not while a decode runs."""
