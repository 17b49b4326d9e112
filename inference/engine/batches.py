"""Divide the chunks of a step into batches."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from inference.engine.backend import Span
from inference.engine.sequence import Sequence

# Attention works in tiles from this many rows on: GGML_FA_TILED_MIN_ROWS in our patch of ggml.
MIN_TILE_ROWS = 16


@dataclass(frozen=True)
class Chunk:
    """The next ``count`` pending tokens of a sequence, and drafted tokens to compute after them."""

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
    """Divide a step into batches that are computed one after the other."""
    # Usually one batch is best: weights are read once. When a prompt beside answers has many
    # cells to attend to, the answers get a second batch: in the first their queries would share
    # tiles with those of prompts and attend to their cells.
    answers = [chunk for chunk in chunks if chunk.sequence.is_stepping]
    prompts = [chunk for chunk in chunks if not chunk.sequence.is_stepping]
    if tiled_pairs and answers and max(map(_pairs, prompts), default=0) >= tiled_pairs:
        return [prompts, answers]
    return [[*chunks]]


def _pairs(chunk: Chunk) -> int:
    """Pairs of a query and a cell visible to it that are attended in tiles."""
    if chunk.count < MIN_TILE_ROWS:
        return 0
    return chunk.count * chunk.span.start + chunk.count * (chunk.count + 1) // 2
