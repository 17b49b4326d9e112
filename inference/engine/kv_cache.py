"""Who has which cells of the backend's KV cache: running sequences, and kept ones to share from."""

from collections import OrderedDict
from collections.abc import Iterable

from inference.engine.backend import Backend, BackendError
from inference.engine.config import EngineConfig
from inference.engine.prefix_tree import PrefixTree
from inference.engine.sequence import NO_SLOT, Sequence

# Of those kept, the share that is used again: learnt, and never taken for less than the least.
FIRST_HIT_SHARE = 0.1
MIN_HIT_SHARE = 0.05
HIT_WEIGHT = 0.1
# To have fewer tokens at hand saves next to nothing.
HIT_TOKENS = 16
# Nothing is kept for longer than so many times the age, in generated tokens, at which what is used
# again was used on average.
HIT_AGES = 4
FIRST_HIT_AGE = 128.0
MIN_HIT_AGE = 32.0


class KvCache:
    """Gives sequence ids and cells to sequences, and lets them share what they have in common.

    A sequence that leaves is kept for whoever begins as it did, until its cells or its id are
    needed, more than ``kept_cells`` are kept, or holding it has cost as much as computing it again
    is likely to: attention looks at every used cell, for each token that is generated. A token that
    several sequences begin with takes one cell.
    """

    def __init__(self, backend: Backend, config: EngineConfig) -> None:
        self._backend = backend
        self._config = config
        self._tree = PrefixTree()
        self._running: dict[int, Sequence] = {}
        # The generated tokens there had been when each was last used; the least recent first.
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._generated_tokens = 0
        self._hit_share = FIRST_HIT_SHARE
        self._hit_age = FIRST_HIT_AGE
        self._free_ids = list(range(config.max_sequences + config.kept_sequences - 1, -1, -1))

    @property
    def used_cells(self) -> int:
        """Cells that hold a token, kept ones included."""
        return self._tree.cells + self._private_cells

    @property
    def available_cells(self) -> int:
        """Cells that are free, or would be if nothing were kept."""
        return self._config.kv_cells - self._tree.pinned_cells - self._private_cells

    @property
    def kept_sequences(self) -> int:
        """Sequences that have left and can be shared from."""
        return len(self._kept)

    def survey(self, waiting: Iterable[Sequence]) -> None:
        """Note what waiting sequences could share, and what running ones would set free."""
        for sequence in waiting:
            match = self._tree.match(sequence.generation.cache_salt, sequence.token_ids[:-1])
            sequence.shareable_tokens = match.length
            sequence.unpinned_tokens = len(sequence.token_ids) - match.pinned
        running = sorted(self._running.values(), key=lambda sequence: sequence.rank)
        added = self._tree.added(sequence.sequence_id for sequence in running)
        for sequence, published in zip(running, added, strict=True):
            private = sequence.computed_tokens - self._tree.length(sequence.sequence_id)
            sequence.own_cells = private + published

    def enter(self, sequence: Sequence) -> None:
        """Give a sequence an id and the longest known beginning of its tokens.

        The last token is left out: it must be computed for its logits. So is what has become known
        since the survey: the plan of the step does not count with it.
        """
        salt = sequence.generation.cache_salt
        match = self._tree.match(salt, sequence.token_ids[: sequence.shareable_tokens])
        if match.holder in self._kept:
            if match.length - match.pinned >= HIT_TOKENS:
                age = self._generated_tokens - self._kept[match.holder]
                self._hit_share += HIT_WEIGHT * (1 - self._hit_share)
                self._hit_age += HIT_WEIGHT * (age - self._hit_age)
            self._kept[match.holder] = self._generated_tokens
            self._kept.move_to_end(match.holder)
        sequence.sequence_id = self._free_ids.pop()
        self._running[sequence.sequence_id] = sequence
        shared = sequence.token_ids[: match.length]
        if shared:
            self._backend.share(match.holder, sequence.sequence_id, 0, len(shared))
        self._tree.hold(sequence.sequence_id, salt, shared)
        sequence.computed_tokens = sequence.shareable_tokens = len(shared)

    def age(self, generated_tokens: int) -> None:
        """Forget what has been kept for too long, after a step that gave so many tokens.

        As with hired skis that one may also buy: who holds on until the hire has cost the price
        pays at most twice what he would have paid with foresight. And what has lain for several
        times as long as what others came back for is not waited for: they will not come back.
        """
        self._generated_tokens += generated_tokens
        patience = self._config.hold_tokens * max(self._hit_share, MIN_HIT_SHARE)
        patience = min(patience, HIT_AGES * max(self._hit_age, MIN_HIT_AGE))
        while self._kept:
            used_at = next(iter(self._kept.values()))
            if self._generated_tokens - used_at <= patience:
                return
            self._evict()
            self._hit_share -= HIT_WEIGHT * self._hit_share

    def make_room(self, tokens: int) -> None:
        """Forget kept sequences until ``tokens`` cells are free."""
        while self._kept and self._config.kv_cells - self.used_cells < tokens:
            self._evict()

    def publish(self, sequence: Sequence) -> None:
        """Let others share what a running sequence has computed of its prompt."""
        end = min(sequence.computed_tokens, len(sequence.generation.prompt_token_ids))
        if self._config.shares_prefixes and end > self._tree.length(sequence.sequence_id):
            self._hold(sequence, end)

    def leave(self, sequence: Sequence) -> None:
        """Take the id from a running sequence; what it has is kept for others to share."""
        sequence_id = sequence.sequence_id
        del self._running[sequence_id]
        if self._config.shares_prefixes:
            self._keep(sequence)
        else:
            self._tree.release(sequence_id)
            self._backend.truncate(sequence_id, 0)
            self._free_ids.append(sequence_id)
        sequence.sequence_id = NO_SLOT
        sequence.computed_tokens = 0

    def forget_kept(self) -> bool:
        """Free everything that is only kept; False when nothing was."""
        had_any = bool(self._kept)
        while self._kept:
            self._evict()
        return had_any

    def check_integrity(self) -> None:
        """Compare the count of ids and cells with the backend's.

        Raises:
            BackendError: they differ, so cells leaked or were lost.
        """
        lengths = {s.sequence_id: s.computed_tokens for s in self._running.values()}
        lengths |= {kept: self._tree.length(kept) for kept in self._kept}
        lengths |= dict.fromkeys(self._free_ids, 0)
        for sequence_id, length in lengths.items():
            stored = self._backend.stored_tokens(sequence_id)
            if stored != length:
                raise BackendError(
                    f"sequence {sequence_id} holds {stored} cells, expected {length}"
                )
        total = self._config.max_sequences + self._config.kept_sequences
        if len(self._free_ids) + len(self._running) + len(self._kept) != total:
            raise BackendError(
                f"{len(self._free_ids)} free, {len(self._running)} running and "
                f"{len(self._kept)} kept sequences are not {total}"
            )
        if not 0 <= self.used_cells <= self._config.kv_cells:
            raise BackendError(f"{self.used_cells} of {self._config.kv_cells} cells are used")

    @property
    def _private_cells(self) -> int:
        """Cells of running sequences that are not in the tree: answers as they grow."""
        return sum(
            sequence.computed_tokens - self._tree.length(sequence_id)
            for sequence_id, sequence in self._running.items()
        )

    def _hold(self, sequence: Sequence, end: int) -> None:
        """Put a sequence's tokens into the tree; cells that another has as well are given up."""
        overlap = self._tree.hold(
            sequence.sequence_id,
            sequence.generation.cache_salt,
            sequence.token_ids[:end],
        )
        if overlap is not None:
            self._backend.share(overlap.other, sequence.sequence_id, overlap.start, overlap.end)

    def _keep(self, sequence: Sequence) -> None:
        """Let others share from a sequence that leaves; what is kept too much by that goes."""
        # Guesses behind the token that it ended with.
        self._backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        self._hold(sequence, sequence.computed_tokens)
        self._tree.unpin(sequence.sequence_id)
        self._kept[sequence.sequence_id] = self._generated_tokens
        for other in list(self._kept):
            if self._tree.is_within_another(other):
                self._forget(other)
        while len(self._kept) > self._config.kept_sequences:
            self._evict()
        while (excess := self._tree.cells - self._tree.pinned_cells - self._config.kept_cells) > 0:
            if len(self._kept) > 1:
                self._evict()
            else:
                (kept,) = self._kept
                length = self._tree.length(kept) - excess
                self._tree.cut(kept, length)
                self._backend.truncate(kept, length)

    def _evict(self) -> None:
        """Forget the kept sequence not used for longest."""
        self._forget(next(iter(self._kept)))

    def _forget(self, kept: int) -> None:
        del self._kept[kept]
        self._tree.release(kept)
        self._backend.truncate(kept, 0)
        self._free_ids.append(kept)
