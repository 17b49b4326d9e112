"""The guard: whether the answer to one question may be given to another.

Nothing may differ but a few things that are known to be harmless. Similarity of vectors finds
candidates; it has no say here, since a question and its contrary are nearly the same vector.
"""

from .facts import Facts
from .words import CLAUSE, FRONTING, is_slip, is_word

VERSION = 1  # part of the key of stored answers; raise it with every change of a rule or list
MAX_TYPOS = 3


def refusal(a: Facts, b: Facts) -> str:
    """The reason not to give the answer to ``a`` to ``b``; "" when it may be given."""
    if a.digest != b.digest:
        name, ours, theirs = next(
            (name, ours, theirs)
            for (name, ours), (_, theirs) in zip(a.shared, b.shared, strict=True)
            if ours != theirs
        )
        return f"other {name}: {_listed(ours)} / {_listed(theirs)}"
    if a.words == b.words or _is_fronted(a.words, b.words) or _is_fronted(b.words, a.words):
        return ""
    if len(a.words) != len(b.words):
        return f"other words: {_listed(_without(a, b))} / {_listed(_without(b, a))}"
    differing = [(x, y) for x, y in zip(a.words, b.words, strict=True) if x != y]
    if sorted(a.words) == sorted(b.words):
        return "another order of the words"
    for x, y in differing:
        if not _is_typo(x, y, a.names | b.names):
            return f"other words: {x} / {y}"
    return "" if len(differing) <= MAX_TYPOS else "too many mistyped words"


def _is_fronted(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Tell whether ``a`` is ``b`` with its last phrase put first: "In Rome, where do I park?"."""
    if len(a) != len(b) or a[0] not in FRONTING:
        return False
    return any(a[k] in CLAUSE and a[k:] + a[:k] == b for k in range(2, len(a) - 1))


def _is_typo(x: str, y: str, names: frozenset[str]) -> bool:
    """Tell whether exactly one is a word, and the other a slip of it.

    Names are not in dictionaries, so a capital forbids it. "llegal" may be legal or illegal.
    """
    if not (x.isalpha() and y.isalpha() and (is_slip(x, y) or is_slip(y, x))):
        return False
    wrong, right = (y, x) if is_word(x) else (x, y)
    if is_word(wrong) or not is_word(right) or not is_slip(wrong, right):
        return False
    return wrong not in names and wrong[0] != wrong[1]


def _without(a: Facts, b: Facts) -> tuple[str, ...]:
    return tuple(word for word in a.words if word not in b.words)


def _listed(words: tuple[str, ...]) -> str:
    return " ".join(words) or "none"
