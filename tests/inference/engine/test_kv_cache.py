"""Ids and cells over the fake backend, whose own count of cells is always the cache's."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.engine.backend import BackendError, DecodeOutcome, Span
from inference.engine.config import EngineConfig
from inference.engine.kv_cache import (
    FIRST_HIT_AGE,
    FIRST_HIT_SHARE,
    HIT_AGES,
    MIN_HIT_AGE,
    MIN_HIT_SHARE,
    KvCache,
)
from inference.engine.sequence import NO_SLOT, Sequence
from tests.inference.engine.fake_backend import FakeBackend
from tests.inference.engine.generations import generation

BEGINNING = "once upon a time "


class Rig:
    """A KV cache that is driven as the engine does it."""

    def __init__(
        self,
        *,
        kv_cells: int = 200,
        max_sequences: int = 3,
        kept_sequences: int = 4,
        kept_cells: int = 200,
        shares_prefixes: bool = True,
        hold_tokens: int = 2048,
    ) -> None:
        self.backend = FakeBackend(kv_cells)
        self.config = EngineConfig(
            kv_cells,
            max_sequences,
            kept_sequences=kept_sequences,
            kept_cells=kept_cells,
            shares_prefixes=shares_prefixes,
            hold_tokens=hold_tokens,
        )
        self.cache = KvCache(self.backend, self.config)
        self.arrivals = 0

    def waiting(self, prompt: str | bytes, **fields: object) -> Sequence:
        """A sequence that has not entered, but knows what it could share."""
        sequence = Sequence(generation(str(self.arrivals), prompt, **fields), self.arrivals, 0.0)
        self.arrivals += 1
        self.cache.update_sharing([sequence])
        return sequence

    def running(self, prompt: str | bytes, **fields: object) -> Sequence:
        """A sequence that has entered."""
        sequence = self.waiting(prompt, **fields)
        self.cache.allocate(sequence)
        return sequence

    def computed(self, prompt: str | bytes, **fields: object) -> Sequence:
        """A sequence whose whole prompt is in the cache."""
        sequence = self.running(prompt, **fields)
        self.compute(sequence, sequence.pending_tokens)
        return sequence

    def compute(self, sequence: Sequence, count: int) -> None:
        """Put pending tokens through the backend and let others share them."""
        self.cache.make_room(count)
        start = sequence.computed_tokens
        tokens = sequence.token_ids[start : start + count]
        span = Span(sequence.sequence_id, start, tokens, outputs=0)
        assert self.backend.decode([span]) is DecodeOutcome.DONE
        sequence.computed_tokens += count
        self.cache.publish(sequence)

    def say(self, sequence: Sequence, text: str) -> None:
        """Give a sequence output, computed a token at a time."""
        for token_id in text.encode():
            sequence.token_ids.append(token_id)
            self.compute(sequence, 1)

    def history(self, sequence: Sequence) -> list[int]:
        """The tokens that the backend has for a sequence."""
        return [cell.token_id for cell in self.backend._stored[sequence.sequence_id]]

    def check(self) -> None:
        """The backend has exactly what the cache thinks it has."""
        self.cache.check_integrity()
        assert self.backend.used_cells == self.cache.used_cells <= self.config.kv_cells


def test_kv_cache_shares_the_beginning_of_a_running_sequence():
    rig = Rig()
    first = rig.computed(BEGINNING + "there was a fox")
    second = rig.running(BEGINNING + "there were two")
    assert second.computed_tokens == len(BEGINNING + "there w")
    assert rig.history(second) == list((BEGINNING + "there w").encode())
    assert rig.cache.used_cells == len(first.token_ids)
    rig.compute(second, second.pending_tokens)
    assert rig.cache.used_cells == len(first.token_ids) + len("ere two")
    rig.check()


def test_kv_cache_leaves_the_last_token_to_be_computed():
    rig = Rig()
    rig.computed("same")
    again = rig.running("same")
    assert (again.computed_tokens, again.pending_tokens) == (3, 1)


def test_kv_cache_shares_from_one_that_has_left_and_also_its_answer():
    rig = Rig()
    first = rig.computed("question?")
    rig.say(first, " answer.")
    rig.cache.release(first)
    assert (first.sequence_id, first.computed_tokens) == (NO_SLOT, 0)
    assert rig.cache.kept_sequences == 1
    second = rig.running("question? answer. And then?")
    assert second.computed_tokens == len("question? answer.")
    rig.check()


def test_kv_cache_does_not_share_the_answer_of_one_that_runs():
    """Its cells are its own, to be cut and counted as it likes."""
    rig = Rig()
    rig.say(rig.computed("question?"), " answer.")
    assert rig.running("question? answer. And then?").computed_tokens == len("question?")


def test_kv_cache_shares_no_more_than_the_plan_of_the_step_counts_with():
    """A sequence preempted in that step may have left more to share."""
    rig = Rig()
    first = rig.computed("question?")
    rig.say(first, " answer.")
    second = rig.waiting("question? answer. And then?")
    rig.cache.release(first)
    rig.cache.allocate(second)
    assert second.computed_tokens == second.shareable_tokens == len("question?")
    rig.compute(second, second.pending_tokens)
    assert rig.cache.used_cells == len("question? answer. And then?")
    rig.check()


def test_kv_cache_keeps_one_copy_of_what_two_computed_at_the_same_time():
    rig = Rig()
    first, second = rig.running("the same tokens"), rig.running("the same tokens, and more")
    for sequence in (first, second):
        rig.compute(sequence, 8)
    assert rig.backend.used_cells == rig.cache.used_cells == 8
    rig.compute(first, first.pending_tokens)
    rig.compute(second, second.pending_tokens)
    assert rig.backend.used_cells == rig.cache.used_cells == len(second.token_ids)
    assert rig.history(first) == first.token_ids
    rig.check()


def test_kv_cache_separates_tenants_by_their_salt():
    rig = Rig()
    mine = rig.computed("the same prompt", cache_salt="mine")
    rig.cache.release(mine)
    assert rig.computed("the same prompt", cache_salt="yours").shareable_tokens == 0
    assert rig.running("the same prompt", cache_salt="mine").shareable_tokens > 0
    rig.check()


def test_kv_cache_counts_shared_and_pinned_tokens():
    rig = Rig()
    kept = rig.computed(BEGINNING + "kept")
    rig.cache.release(kept)
    rig.running(BEGINNING + "runs")
    waiting = rig.waiting(BEGINNING + "kept!")
    assert waiting.shareable_tokens == len(BEGINNING + "kept")
    assert waiting.unpinned_tokens == len("kept!")


def test_kv_cache_counts_the_cells_each_would_free_after_lower_ranks():
    rig = Rig()
    low = rig.computed(BEGINNING + "low", priority=1)
    high = rig.computed(BEGINNING + "high", priority=3)
    middle = rig.computed(BEGINNING + "middle")
    rig.say(middle, "said")
    rig.cache.update_sharing([])
    own = [sequence.own_cells for sequence in (high, middle, low)]
    assert own == [len(BEGINNING + "high"), len("middlesaid"), len("low")]
    assert sum(own) == rig.cache.used_cells
    for gone, expected in ((low, 3), (middle, 10)):
        before = rig.cache.available_cells
        rig.cache.release(gone)
        assert rig.cache.available_cells - before == expected


def test_kv_cache_evicts_the_least_recently_used_for_cells():
    rig = Rig(kv_cells=30)
    for text in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        rig.cache.release(rig.computed(text))
    rig.running("aaaa!")  # used again, so now the most recent
    rig.computed("dddddddddd")
    shareable = [rig.waiting(text * 9).shareable_tokens for text in "abc"]
    assert shareable == [8, 0, 8]
    rig.check()


def test_kv_cache_evicts_the_least_recently_used_beyond_so_many():
    rig = Rig(kept_sequences=2)
    for text in ("aaaa", "bbbb", "cccc"):
        rig.cache.release(rig.computed(text))
    assert [rig.waiting(text * 9).shareable_tokens for text in "abc"] == [0, 4, 4]
    assert rig.cache.kept_sequences == 2
    rig.check()


def test_kv_cache_evicts_the_least_recently_used_beyond_so_many_cells():
    rig = Rig(kept_cells=20)
    for text in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        rig.cache.release(rig.computed(text))
    assert [rig.waiting(text * 9).shareable_tokens for text in "abc"] == [0, 8, 8]
    rig.check()


def test_kv_cache_keeps_the_beginning_of_what_is_too_long():
    rig = Rig(kept_cells=10)
    long = rig.computed(BEGINNING)
    rig.say(long, "and an answer")
    rig.cache.release(long)
    assert rig.cache.used_cells == 10
    assert rig.waiting(BEGINNING).shareable_tokens == 10
    rig.check()


def test_kv_cache_keeps_beyond_its_limit_what_a_running_sequence_has_anyway():
    rig = Rig(kept_cells=5)
    runs, leaves = rig.computed(BEGINNING + "runs"), rig.computed(BEGINNING + "leaves")
    rig.cache.release(leaves)
    assert rig.cache.used_cells == len(BEGINNING + "runs") + 5
    rig.cache.release(runs)
    assert rig.cache.used_cells == 5
    rig.check()


@pytest.mark.parametrize("leaves_first", [0, 1])
def test_kv_cache_keeps_a_long_beginning_although_both_that_had_it_leave(leaves_first):
    rig = Rig(kept_cells=10)
    sequences = [rig.computed(BEGINNING), rig.computed(BEGINNING + "and more")]
    rig.cache.release(sequences[leaves_first])
    rig.check()
    rig.cache.release(sequences[1 - leaves_first])
    assert rig.cache.used_cells == 10
    assert rig.waiting(BEGINNING).shareable_tokens == 10
    rig.check()


def test_kv_cache_keeps_nothing_twice():
    rig = Rig()
    for text in (BEGINNING, BEGINNING + "and more", BEGINNING):
        rig.cache.release(rig.computed(text))
    assert rig.cache.kept_sequences == 1
    assert rig.cache.used_cells == len(BEGINNING + "and more")
    rig.check()


def test_kv_cache_without_ids_to_keep_takes_new_sequences_still():
    rig = Rig(max_sequences=1, kept_sequences=0)
    for _ in range(3):
        rig.cache.release(rig.computed("the same"))
        rig.check()
    assert rig.cache.kept_sequences == 0


def test_kv_cache_never_forgets_running_sequences():
    rig = Rig(kv_cells=40)
    running = rig.computed(BEGINNING)
    rig.cache.release(rig.computed(BEGINNING + "kept"))
    rig.cache.make_room(39)
    assert rig.cache.kept_sequences == 0
    assert rig.history(running) == running.token_ids
    assert rig.cache.forget_kept() is False
    rig.check()


def test_kv_cache_counts_kept_cells_as_available():
    rig = Rig(kv_cells=50)
    rig.cache.release(rig.computed("0123456789"))
    assert (rig.cache.used_cells, rig.cache.available_cells) == (10, 50)
    rig.say(rig.computed("01234abc"), "de")
    assert (rig.cache.used_cells, rig.cache.available_cells) == (15, 40)
    assert rig.cache.forget_kept() is True
    assert (rig.cache.used_cells, rig.cache.available_cells) == (10, 40)
    rig.check()


def test_kv_cache_of_a_model_that_cannot_share_keeps_nothing():
    rig = Rig(shares_prefixes=False)
    first, second = rig.computed("the same"), rig.computed("the same")
    assert second.shareable_tokens == 0
    rig.check()
    rig.cache.release(first)
    rig.cache.release(second)
    assert (rig.cache.used_cells, rig.cache.kept_sequences) == (0, 0)
    rig.check()


def lose_a_cell(rig: Rig, running: Sequence) -> None:
    rig.backend.truncate(running.sequence_id, running.computed_tokens - 1)


def leak_into_a_free_id(rig: Rig, running: Sequence) -> None:
    rig.backend.share(running.sequence_id, rig.cache._free_ids[0], 0, 1)


def lose_an_id(rig: Rig, running: Sequence) -> None:
    rig.cache._free_ids.pop()


def lose_what_is_kept(rig: Rig, running: Sequence) -> None:
    rig.backend.truncate(next(iter(rig.cache._kept)), 0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (leak_into_a_free_id, r"sequence \d holds 1 cells, expected 0"),
        (lose_a_cell, r"sequence \d holds 6 cells, expected 7"),
        (lose_what_is_kept, r"sequence \d holds 0 cells, expected 4"),
        (lose_an_id, "4 free, 1 running and 1 kept sequences are not 7"),
    ],
)
def test_kv_cache_integrity_check_finds_damage(damage, message):
    rig = Rig()
    rig.cache.release(rig.computed("kept"))
    running = rig.computed("running")
    rig.check()
    damage(rig, running)
    with pytest.raises(BackendError, match=message):
        rig.cache.check_integrity()


def kept_for_tokens(rig: Rig) -> int:
    """How many generated tokens what is kept now outlives."""
    tokens = 0
    while rig.cache.kept_sequences:
        rig.cache.expire(1)
        tokens += 1
    return tokens - 1


def come_back(rig: Rig, times: int, after_tokens: int) -> None:
    """Somebody leaves, and each time somebody else begins in the same way, and leaves."""
    for _ in range(times):
        rig.cache.release(rig.computed(BEGINNING + "there was a fox"))
        rig.cache.expire(after_tokens)


def test_kv_cache_forgets_sequences_without_hits():
    rig = Rig(hold_tokens=1000)
    rig.cache.release(rig.computed("a long time ago"))
    assert kept_for_tokens(rig) == 1000 * FIRST_HIT_SHARE
    for number in range(20):
        rig.cache.release(rig.computed(bytes([number] * 20)))
        rig.cache.expire(1000)
    rig.cache.release(rig.computed(BEGINNING))
    assert kept_for_tokens(rig) == 1000 * MIN_HIT_SHARE
    rig.check()


def test_kv_cache_keeps_longer_after_hits():
    rig = Rig(hold_tokens=1000)
    come_back(rig, times=30, after_tokens=90)
    rig.cache.release(rig.computed("a long time ago"))
    assert HIT_AGES * 90 < kept_for_tokens(rig) < HIT_AGES * FIRST_HIT_AGE


def test_kv_cache_forgets_sequences_older_than_usual_hits():
    rig = Rig(hold_tokens=1000)
    come_back(rig, times=60, after_tokens=2)
    rig.cache.release(rig.computed("a long time ago"))
    assert kept_for_tokens(rig) == HIT_AGES * MIN_HIT_AGE


def test_kv_cache_counts_from_the_last_use():
    rig = Rig(hold_tokens=1000)
    rig.cache.release(rig.computed(BEGINNING + "fox"))
    rig.cache.release(rig.computed("another one"))
    rig.cache.expire(99)
    rig.cache.release(rig.computed(BEGINNING + "fox"))
    rig.cache.expire(95)
    assert rig.waiting(BEGINNING + "fox!").shareable_tokens == len(BEGINNING + "fox")
    assert rig.waiting("another one!").shareable_tokens == 0


class KvCacheMachine(RuleBasedStateMachine):
    """Sequences with like beginnings enter, compute, speak and leave in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(kv_cells=60, max_sequences=3, kept_sequences=2, kept_cells=20)
        self.sequences: list[Sequence] = []

    def pick(self, data: st.DataObject) -> Sequence:
        """One of those that run."""
        return data.draw(st.sampled_from(self.sequences))

    @precondition(lambda self: len(self.sequences) < 3)
    @rule(prompt=st.lists(st.integers(0, 1), min_size=1, max_size=14), salt=st.integers(0, 1))
    def enter(self, prompt: list[int], salt: int) -> None:
        """Another sequence, of one of two tenants."""
        waiting = self.rig.waiting(bytes(prompt), cache_salt=str(salt))
        if waiting.unpinned_tokens <= self.rig.cache.available_cells:
            self.rig.cache.allocate(waiting)
            assert waiting.computed_tokens == waiting.shareable_tokens < len(prompt)
            self.sequences.append(waiting)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), count=st.integers(1, 20))
    def compute(self, data: st.DataObject, count: int) -> None:
        """Part of what is pending, or an answer's next token."""
        sequence = self.pick(data)
        if not sequence.pending_tokens:
            sequence.token_ids.append(count % 2)
        count = min(count, sequence.pending_tokens, self.rig.cache.available_cells)
        if count:
            self.rig.compute(sequence, count)

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """One ends."""
        sequence = self.pick(data)
        self.sequences.remove(sequence)
        self.rig.cache.release(sequence)
        cache = self.rig.cache
        kept_cells = self.rig.config.kv_cells - cache.available_cells
        assert cache.used_cells - kept_cells <= self.rig.config.kept_cells
        assert cache.kept_sequences <= self.rig.config.kept_sequences

    @rule()
    def forget_kept(self) -> None:
        """Everything kept goes, and the rest is available."""
        available = self.rig.cache.available_cells
        self.rig.cache.forget_kept()
        assert self.rig.cache.kept_sequences == 0
        free = self.rig.config.kv_cells - self.rig.cache.used_cells
        assert free == available == self.rig.cache.available_cells

    @invariant()
    def counts_are_true(self) -> None:
        """Every running sequence has its own tokens, and each cell counts once."""
        self.rig.check()
        for sequence in self.sequences:
            if sequence.computed_tokens:
                tokens = sequence.token_ids[: sequence.computed_tokens]
                assert self.rig.history(sequence) == tokens
        self.rig.cache.update_sharing([])
        own = sum(sequence.own_cells for sequence in self.sequences)
        assert own == self.rig.config.kv_cells - self.rig.cache.available_cells


KvCacheMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=30)
TestKvCacheUnderAnyUse = KvCacheMachine.TestCase
