"""How the chunks of a step are put into batches: pure."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from inference.engine.backend import Span
from inference.engine.sequence import Sequence

# Shorter parts of prompts are not attended in tiles: GGML_FA_TILED_MIN_ROWS in our patch of ggml.
MIN_TILE_ROWS = 16


@dataclass(frozen=True)
class Chunk:
    """The next ``count`` pending tokens of a sequence, and guesses at what follows them."""

    sequence: Sequence
    count: int
    draft: list[int] = field(default_factory=list)
    span: Span = field(init=False)

    def __post_init__(self) -> None:
        sequence, start = self.sequence, self.sequence.computed_tokens
        span = Span(
            sequence_id=sequence.sequence_id,
            start=start,
            token_ids=sequence.token_ids[start : start + self.count] + self.draft,
            outputs=int(self.count == sequence.pending_tokens) + len(self.draft),
        )
        object.__setattr__(self, "span", span)


def batches(chunks: SequenceOf[Chunk], tiled_pairs: int) -> list[list[Chunk]]:
    """Divide a step into the batches that are computed one after the other.

    Mostly it is one, so that weights are read once. When one of the prompts beside answers has much
    to attend to, it is the prompts first, then the answers: in one batch the queries of the answers
    would be in tiles with theirs, and each would look at the cells of all others.

    Args:
        chunks: what is to be computed.
        tiled_pairs: as the backend has it; 0 where batches are not attended in tiles.
    """
    answers = [chunk for chunk in chunks if chunk.sequence.is_stepping]
    prompts = [chunk for chunk in chunks if not chunk.sequence.is_stepping]
    if tiled_pairs and answers and max(map(_pairs, prompts), default=0) >= tiled_pairs:
        return [prompts, answers]
    return [[*chunks]]


def _pairs(chunk: Chunk) -> int:
    """Pairs of a query and a cell that it sees, where tiles take them."""
    if chunk.count < MIN_TILE_ROWS:
        return 0
    return chunk.count * chunk.span.start + chunk.count * (chunk.count + 1) // 2
