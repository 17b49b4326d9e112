"""Account for the cells of the backend's KV cache, and share them between sequences."""

from collections import OrderedDict
from collections.abc import Iterable

from inference.engine.backend import Backend, BackendError
from inference.engine.config import EngineConfig
from inference.engine.prefix_tree import PrefixTree
from inference.engine.sequence import NO_SLOT, Sequence

# The share of kept sequences that are used again: learnt, with a lower bound.
FIRST_HIT_SHARE = 0.1
MIN_HIT_SHARE = 0.05
HIT_WEIGHT = 0.1
# A hit on fewer tokens saves next to nothing and is not counted.
HIT_TOKENS = 16
# A sequence is kept for at most HIT_AGES times the average age, in generated tokens, of a hit.
HIT_AGES = 4
FIRST_HIT_AGE = 128.0
MIN_HIT_AGE = 32.0


class KvCache:
    """Gives sequence ids and cells to sequences, and lets them share common beginnings.

    A finished sequence is kept for others with the same beginning, until its cells or its id are
    needed, more than ``kept_cells`` cells are kept, or keeping it has cost as much as computing it
    again is likely to: attention looks at every used cell for each generated token. A token that
    several sequences begin with takes one cell.
    """

    def __init__(self, backend: Backend, config: EngineConfig) -> None:
        self._backend = backend
        self._config = config
        self._tree = PrefixTree()
        self._running: dict[int, Sequence] = {}
        # The value of _generated_tokens at the last use of each; least recently used first.
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._generated_tokens = 0
        self._hit_share = FIRST_HIT_SHARE
        self._hit_age = FIRST_HIT_AGE
        self._free_ids = list(range(config.max_sequences + config.kept_sequences - 1, -1, -1))

    @property
    def used_cells(self) -> int:
        return self._tree.cells + self._private_cells

    @property
    def available_cells(self) -> int:
        """Cells that are free, or would be if no sequence were kept."""
        return self._config.kv_cells - self._tree.pinned_cells - self._private_cells

    @property
    def kept_sequences(self) -> int:
        return len(self._kept)

    def update_sharing(self, waiting: Iterable[Sequence]) -> None:
        """Set what each waiting sequence could share and what each running one would free."""
        for sequence in waiting:
            # The last token is not shared: it must be computed for its logits.
            match = self._tree.match(sequence.generation.cache_salt, sequence.token_ids[:-1])
            sequence.shareable_tokens = match.length
            sequence.unpinned_tokens = len(sequence.token_ids) - match.pinned
        running = sorted(self._running.values(), key=lambda sequence: sequence.rank)
        added = self._tree.added(sequence.sequence_id for sequence in running)
        for sequence, published in zip(running, added, strict=True):
            private = sequence.computed_tokens - self._tree.length(sequence.sequence_id)
            sequence.own_cells = private + published

    def allocate(self, sequence: Sequence) -> None:
        """Give a sequence an id and the longest known beginning of its tokens."""
        # A beginning that became known after ``update_sharing`` is not shared: the plan of the step
        # does not count with it.
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

    def expire(self, generated_tokens: int) -> None:
        """Forget sequences kept for too long, after a step with ``generated_tokens``."""
        self._generated_tokens += generated_tokens
        # The ski-rental rule: keeping until its cost equals the expected cost of computing again
        # costs at most twice the optimum. Also, hits on very old sequences are unlikely.
        patience = self._config.hold_tokens * max(self._hit_share, MIN_HIT_SHARE)
        patience = min(patience, HIT_AGES * max(self._hit_age, MIN_HIT_AGE))
        while self._kept:
            used_at = next(iter(self._kept.values()))
            if self._generated_tokens - used_at <= patience:
                return
            self._forget_oldest()
            self._hit_share -= HIT_WEIGHT * self._hit_share

    def make_room(self, tokens: int) -> None:
        while self._kept and self._config.kv_cells - self.used_cells < tokens:
            self._forget_oldest()

    def publish(self, sequence: Sequence) -> None:
        """Let others share what a running sequence has computed of its prompt."""
        end = min(sequence.computed_tokens, len(sequence.generation.prompt_token_ids))
        if self._config.shares_prefixes and end > self._tree.length(sequence.sequence_id):
            self._hold(sequence, end)

    def release(self, sequence: Sequence) -> None:
        """Take the id from a running sequence; its cells are kept for others to share."""
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
        """False when there were no kept sequences."""
        had_any = bool(self._kept)
        while self._kept:
            self._forget_oldest()
        return had_any

    def check_integrity(self) -> None:
        """Raise ``BackendError`` when cells or sequence ids leaked or were lost."""
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
        overlap = self._tree.hold(
            sequence.sequence_id,
            sequence.generation.cache_salt,
            sequence.token_ids[:end],
        )
        if overlap is not None:
            self._backend.share(overlap.other, sequence.sequence_id, overlap.start, overlap.end)

    def _keep(self, sequence: Sequence) -> None:
        # Removes drafted tokens after the end of the answer.
        self._backend.truncate(sequence.sequence_id, sequence.computed_tokens)
        self._hold(sequence, sequence.computed_tokens)
        self._tree.unpin(sequence.sequence_id)
        self._kept[sequence.sequence_id] = self._generated_tokens
        for other in list(self._kept):
            if self._tree.is_within_another(other):
                self._forget(other)
        while len(self._kept) > self._config.kept_sequences:
            self._forget_oldest()
        while (excess := self._tree.cells - self._tree.pinned_cells - self._config.kept_cells) > 0:
            if len(self._kept) > 1:
                self._forget_oldest()
            else:
                (kept,) = self._kept
                length = self._tree.length(kept) - excess
                self._tree.cut(kept, length)
                self._backend.truncate(kept, length)

    def _forget_oldest(self) -> None:
        self._forget(next(iter(self._kept)))

    def _forget(self, kept: int) -> None:
        del self._kept[kept]
        self._tree.release(kept)
        self._backend.truncate(kept, 0)
        self._free_ids.append(kept)
