"""A radix tree over token ids that records which sequences of the KV cache hold which prefix.

It follows the radix cache of SGLang (arXiv 2312.07104, section 3), but its nodes have holders, the
ids of sequences, in place of memory pages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

NO_HOLDER = -1


@dataclass(frozen=True)
class Match:
    """The longest beginning of some token ids that is in the tree."""

    length: int = 0
    holder: int = NO_HOLDER  # has all of them
    pinned: int = 0  # the first that pinned holders have


@dataclass(frozen=True)
class Overlap:
    """Tokens ``start`` to ``end`` of those that a holder adds are already held by ``other``."""

    start: int
    end: int
    other: int


class _Node:
    __slots__ = ("children", "holders", "parent", "pins", "token_ids")

    def __init__(self, token_ids: list[int], parent: "_Node | None") -> None:
        self.token_ids = token_ids
        self.parent = parent
        self.children: dict[int, _Node] = {}
        self.holders: set[int] = set()
        self.pins = 0


@dataclass
class _Path:
    end: _Node
    length: int
    pinned: bool


class PrefixTree:
    """Paths of token ids from a root; each salt has a root of its own."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}
        self._paths: dict[int, _Path] = {}
        # Tokens with any holder, and with a pinned one; a token with several holders counts once.
        self.cells = 0
        self.pinned_cells = 0

    def match(self, salt: str, token_ids: list[int]) -> Match:
        node = self._roots.get(salt)
        length = pinned = 0
        holder = NO_HOLDER
        while node is not None and length < len(token_ids):
            node = node.children.get(token_ids[length])
            if node is None:
                break
            common = common_length(node.token_ids, token_ids, length)
            length += common
            holder = next(iter(node.holders))
            if node.pins:
                pinned = length
            if common < len(node.token_ids):
                break
        return Match(length, holder, pinned)

    def hold(self, holder: int, salt: str, token_ids: list[int]) -> Overlap | None:
        """Extend the tokens of ``holder``, and return the part that another holder has too."""
        path = self._paths.get(holder)
        if path is None:
            root = self._roots.setdefault(salt, _Node([], None))
            path = self._paths[holder] = _Path(root, 0, pinned=True)  # the salt never changes
        start = position = path.length
        overlapped: _Node | None = None
        while position < len(token_ids):
            child = path.end.children.get(token_ids[position])
            if child is None:
                self._append(holder, path, token_ids[position:])
                break
            common = common_length(child.token_ids, token_ids, position)
            if common < len(child.token_ids):
                child = self._split(child, common)
            overlapped = child
            position += common
            child.holders.add(holder)
            if path.pinned:
                self._pin(child)
            path.end = child
        path.length = len(token_ids)
        if overlapped is None:
            return None
        other = next(each for each in overlapped.holders if each != holder)
        return Overlap(start, position, other)

    def unpin(self, holder: int) -> None:
        path = self._paths[holder]
        if path.pinned:
            path.pinned = False
            for node in _upward(path.end):
                self._unpin(node)

    def cut(self, holder: int, length: int) -> None:
        path = self._paths[holder]
        while path.length > length:
            end = path.end
            beyond = path.length - length
            if beyond < len(end.token_ids):
                self._split(end, len(end.token_ids) - beyond)
            path.length -= len(end.token_ids)
            path.end = self._without(end, holder, path)

    def release(self, holder: int) -> None:
        if holder not in self._paths:
            return
        self.cut(holder, 0)
        del self._paths[holder]
        for salt in [salt for salt, root in self._roots.items() if not root.children]:
            if not any(other.end is self._roots[salt] for other in self._paths.values()):
                del self._roots[salt]

    def length(self, holder: int) -> int:
        path = self._paths.get(holder)
        return path.length if path is not None else 0

    def added(self, holders: Iterable[int]) -> list[int]:
        """Number of tokens of each holder that no earlier holder in ``holders`` has."""
        seen: set[_Node] = set()
        counts = []
        for holder in holders:
            nodes = _upward(self._paths[holder].end)
            counts.append(sum(len(node.token_ids) for node in nodes if node not in seen))
            seen.update(nodes)
        return counts

    def is_within_another(self, holder: int) -> bool:
        path = self._paths[holder]
        return path.length == 0 or len(path.end.holders) > 1

    def _append(self, holder: int, path: _Path, token_ids: list[int]) -> None:
        end = path.end
        if end.parent is not None and not end.children and end.holders == {holder}:
            end.token_ids += token_ids
            if end.pins:
                self.pinned_cells += len(token_ids)
        else:
            node = _Node(token_ids, end)
            end.children[token_ids[0]] = node
            node.holders.add(holder)
            path.end = node
            if path.pinned:
                self._pin(node)
        self.cells += len(token_ids)

    def _split(self, node: _Node, at: int) -> _Node:
        """Divide a node; the upper half is the new one, so paths that end in the node still do."""
        parent = node.parent
        if parent is None:
            raise ValueError("a root holds no tokens")
        upper = _Node(node.token_ids[:at], parent)
        upper.holders = set(node.holders)
        upper.pins = node.pins
        parent.children[upper.token_ids[0]] = upper
        node.token_ids = node.token_ids[at:]
        node.parent = upper
        upper.children[node.token_ids[0]] = node
        return upper

    def _without(self, node: _Node, holder: int, path: _Path) -> _Node:
        """Remove a holder from the node that its path ends in; return the parent."""
        parent = node.parent
        if parent is None:
            raise ValueError("a root holds no tokens")
        if path.pinned:
            self._unpin(node)
        node.holders.remove(holder)
        if not node.holders:
            self.cells -= len(node.token_ids)
            del parent.children[node.token_ids[0]]
        return parent

    def _pin(self, node: _Node) -> None:
        if not node.pins:
            self.pinned_cells += len(node.token_ids)
        node.pins += 1

    def _unpin(self, node: _Node) -> None:
        node.pins -= 1
        if not node.pins:
            self.pinned_cells -= len(node.token_ids)


def common_length(first: list[int], second: list[int], start: int = 0) -> int:
    """Length of the common part of ``first`` and ``second`` from ``start`` on."""
    limit = min(len(first), len(second) - start)
    if first[:limit] == second[start : start + limit]:
        return limit
    low, high = 0, limit  # the first `low` are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if first[low:middle] == second[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low


def _upward(node: _Node) -> list[_Node]:
    nodes = []
    while node.parent is not None:
        nodes.append(node)
        node = node.parent
    return nodes
