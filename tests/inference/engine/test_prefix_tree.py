"""The prefix tree against a model that compares all holders token by token."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference.engine.prefix_tree import NO_HOLDER, Match, Overlap, PrefixTree, common_length

SALTS = st.sampled_from(["", "other"])
# Few different tokens, so that beginnings are often the same.
TOKENS = st.lists(st.integers(0, 2), max_size=12)


@dataclass
class Holder:
    """One holder in the model."""

    salt: str
    token_ids: list[int]
    pinned: bool

    def prefixes(self) -> set[tuple[str, tuple[int, ...]]]:
        """Each token together with all before it: what takes one cell, whoever holds it."""
        count = len(self.token_ids)
        return {(self.salt, tuple(self.token_ids[:end])) for end in range(1, count + 1)}


def common(first: list[int], second: list[int]) -> int:
    """Equal tokens at the beginning, counted one by one."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length


class PrefixTreeMachine(RuleBasedStateMachine):
    """Random holders come, grow, are cut, are unpinned and go."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = PrefixTree()
        self.holders: dict[int, Holder] = {}
        self.created = 0

    def best(self, salt: str, token_ids: list[int], among: list[Holder]) -> int:
        """The longest beginning of some tokens that one of several holders has."""
        return max((common(h.token_ids, token_ids) for h in among if h.salt == salt), default=0)

    @rule(salt=SALTS, token_ids=TOKENS, pinned=st.booleans())
    def come(self, salt: str, token_ids: list[int], pinned: bool) -> None:
        """A new holder has some tokens from the start."""
        holder = self.created
        self.created += 1
        self.holders[holder] = Holder(salt, [], pinned=True)
        self.extend(holder, [])
        if not pinned:
            self.unpin_one(holder)
        self.extend(holder, token_ids)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), more=TOKENS)
    def grow(self, data: st.DataObject, more: list[int]) -> None:
        """A holder has more tokens, often as others have them."""
        self.extend(data.draw(st.sampled_from(sorted(self.holders))), more)

    def extend(self, holder: int, more: list[int]) -> None:
        """Hold, and compare the overlap that is told."""
        mine = self.holders[holder]
        others = [other for number, other in self.holders.items() if number != holder]
        wanted = [*mine.token_ids, *more]
        end = self.best(mine.salt, wanted, others)
        overlap = self.tree.hold(holder, mine.salt, wanted)
        if end <= len(mine.token_ids):
            assert overlap is None
        else:
            assert overlap is not None
            assert overlap == Overlap(len(mine.token_ids), end, overlap.other)
            assert overlap.other != holder
            other = self.holders[overlap.other]
            assert (other.salt, other.token_ids[:end]) == (mine.salt, wanted[:end])
        mine.token_ids = wanted

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """A holder has only a beginning of what it had."""
        holder = data.draw(st.sampled_from(sorted(self.holders)))
        token_ids = self.holders[holder].token_ids
        length = data.draw(st.integers(0, len(token_ids)))
        self.tree.cut(holder, length)
        self.holders[holder].token_ids = token_ids[:length]

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        """A holder is unpinned, perhaps once more."""
        self.unpin_one(data.draw(st.sampled_from(sorted(self.holders))))

    def unpin_one(self, holder: int) -> None:
        """Unpin, in both."""
        self.tree.unpin(holder)
        self.holders[holder].pinned = False

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """A holder is forgotten, and forgetting it again changes nothing."""
        holder = data.draw(st.sampled_from(sorted(self.holders)))
        del self.holders[holder]
        self.tree.release(holder)
        self.tree.release(holder)
        assert self.tree.length(holder) == 0

    @rule(salt=SALTS, token_ids=TOKENS)
    def match(self, salt: str, token_ids: list[int]) -> None:
        """The longest beginning, somebody who has all of it, and how much of it is pinned."""
        found = self.tree.match(salt, token_ids)
        everyone = list(self.holders.values())
        assert found.length == self.best(salt, token_ids, everyone)
        assert found.pinned == self.best(salt, token_ids, [h for h in everyone if h.pinned])
        if not found.length:
            assert found == Match(0, NO_HOLDER, 0)
        else:
            holder = self.holders[found.holder]
            assert holder.salt == salt
            assert holder.token_ids[: found.length] == token_ids[: found.length]

    @rule(data=st.data())
    def count_in_order(self, data: st.DataObject) -> None:
        """The tokens that each holder adds to the holders before it."""
        order = data.draw(st.permutations(sorted(self.holders)))
        seen: set[tuple[str, tuple[int, ...]]] = set()
        wanted = []
        for holder in order:
            prefixes = self.holders[holder].prefixes()
            wanted.append(len(prefixes - seen))
            seen |= prefixes
        assert self.tree.added(order) == wanted

    @invariant()
    def counts_each_cell_once(self) -> None:
        """Cells, pinned cells, and what each holder alone has."""
        prefixes = {number: holder.prefixes() for number, holder in self.holders.items()}
        pinned = {number for number, holder in self.holders.items() if holder.pinned}
        assert self.tree.cells == len(set().union(*prefixes.values()))
        assert self.tree.pinned_cells == len(set().union(*(prefixes[each] for each in pinned)))
        for number, holder in self.holders.items():
            assert self.tree.length(number) == len(holder.token_ids)
            is_within = any(
                prefixes[number] <= prefixes[each] for each in prefixes if each != number
            )
            assert self.tree.is_within_another(number) == (is_within or not holder.token_ids)

    def teardown(self) -> None:
        """When all have gone nothing is left."""
        for holder in self.holders:
            self.tree.release(holder)
        assert (self.tree.cells, self.tree.pinned_cells) == (0, 0)
        assert not self.tree._roots
        assert not self.tree._paths


PrefixTreeMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=25)
TestPrefixTreeAgainstAModel = PrefixTreeMachine.TestCase


def test_prefix_tree_tells_what_two_holders_have_in_common():
    tree = PrefixTree()
    assert tree.hold(1, "", [1, 2, 3, 4]) is None
    assert tree.hold(2, "", [1, 2, 3, 5, 6]) == Overlap(0, 3, 1)
    tree.unpin(2)
    assert tree.match("", [1, 2, 3, 5, 7]) == Match(4, 2, 3)
    assert (tree.cells, tree.pinned_cells) == (6, 4)
    assert (tree.added([1, 2]), tree.added([2, 1])) == ([4, 2], [5, 1])


def test_prefix_tree_overlap_begins_where_a_holder_had_ended():
    tree = PrefixTree()
    tree.hold(1, "", [1, 2, 3, 4])
    tree.hold(2, "", [1, 2])
    assert tree.hold(2, "", [1, 2, 3, 9]) == Overlap(2, 3, 1)
    assert tree.hold(2, "", [1, 2, 3, 9, 9]) is None


def test_prefix_tree_keeps_salts_apart():
    tree = PrefixTree()
    tree.hold(1, "mine", [1, 2, 3])
    assert tree.match("yours", [1, 2, 3]) == Match()
    assert tree.hold(2, "yours", [1, 2, 3]) is None
    assert tree.cells == 6


@pytest.mark.parametrize("salts", [1, 50])
def test_prefix_tree_forgets_salts_that_nobody_uses(salts):
    tree = PrefixTree()
    for number in range(salts):
        tree.hold(number, f"salt {number}", [])
        tree.hold(number, f"salt {number}", [number])
    for number in range(salts):
        tree.release(number)
    assert not tree._roots


@given(
    prefix=st.lists(st.integers(0, 1), max_size=40),
    first=st.lists(st.integers(0, 1), max_size=40),
    second=st.lists(st.integers(0, 1), max_size=40),
    before=st.lists(st.integers(0, 1), max_size=5),
)
def test_common_length_is_what_a_loop_finds(prefix, first, second, before):
    first, second = [*prefix, *first], [*prefix, *second]
    assert common_length(first, [*before, *second], len(before)) == common(first, second)
    assert common_length(first, first) == len(first)
