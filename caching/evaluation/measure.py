"""Measures the canonical form and the guard on labelled pairs of questions."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from caching.questions.canonical import canonical_text
from caching.questions.facts import facts_of
from caching.questions.guard import refusal

PAIRS = Path(__file__).resolve().parent / "pairs.tsv"
FOW_CACHE = "fow-cache"
OURS = "repository"
# The least share of pairs with one answer that must be served, by source and kind; "" is any kind.
FLOORS = {(OURS, ""): 0.85, (FOW_CACHE, "near_repeat"): 0.70}


@dataclass(frozen=True)
class Pair:
    """Two questions, each the last turn of a conversation."""

    source: str
    kind: str
    trap: bool  # the answer to one must not be given to the other
    a: str
    b: str
    same_history: bool = True


def pairs_of(path: Path) -> Iterator[Pair]:
    """The pairs of a file. Raises ``ValueError`` for a malformed line."""
    source = OURS if path == PAIRS else path.name
    for number, line in enumerate(path.read_text().splitlines(), 1):
        label, *rest = line.split("\t")
        if label not in ("hit", "trap") or len(rest) != 3:
            raise ValueError(f"line {number} is not: hit or trap, kind, question, question")
        kind, a, b = rest
        yield Pair(source, kind, label == "trap", a, b)


def fow_cache_pairs() -> Iterator[Pair]:
    """The pairs of the package fow-cache; none where it is not installed."""
    if find_spec("fow_cache") is None:
        return
    from fow_cache.data import load_conversations, load_questions

    for item in load_questions():
        yield Pair(FOW_CACHE, item["category"], not item["same_answer"], item["a"], item["b"])
    for item in load_conversations():
        *before_a, last_a = item["a"]
        *before_b, last_b = item["b"]
        yield Pair(
            FOW_CACHE,
            f"chat: {item['subtype']}",
            not item["same_answer"],
            last_a["content"],
            last_b["content"],
            same_history=before_a == before_b,
        )


def is_served_by_canonical_form(pair: Pair) -> bool:
    form = canonical_text(pair.a)
    return pair.same_history and form is not None and form == canonical_text(pair.b)


def is_served_by_guard(pair: Pair) -> bool:
    a, b = facts_of(pair.a), facts_of(pair.b)
    return pair.same_history and a is not None and b is not None and not refusal(a, b)


@dataclass
class Row:
    """Counts of one kind of pairs."""

    source: str
    kind: str
    trap: bool
    pairs: int = 0
    canonical: int = 0
    guard: int = 0
    served: int = 0


def measured(pairs: Iterable[Pair]) -> list[Row]:
    """Rows in the order of the sources, hits before traps."""
    rows: dict[tuple[str, bool, str], Row] = {}
    for pair in pairs:
        key = (pair.source, pair.trap, pair.kind)
        row = rows.setdefault(key, Row(pair.source, pair.kind, pair.trap))
        canonical, guard = is_served_by_canonical_form(pair), is_served_by_guard(pair)
        row.pairs += 1
        row.canonical += canonical
        row.guard += guard
        row.served += canonical or guard
    return [rows[key] for key in sorted(rows)]


def failures(rows: list[Row]) -> list[str]:
    """Traps that are served, and floors that are missed."""
    served, pairs = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    found = []
    for row in rows:
        if row.trap and row.served:
            found.append(f"{row.source}: {row.served} traps of the kind {row.kind} are served.")
        for key in ((row.source, ""), (row.source, row.kind)) if not row.trap else ():
            served[key] += row.served
            pairs[key] += row.pairs
    for key, floor in FLOORS.items():
        if pairs[key] and served[key] < floor * pairs[key]:
            share = f"{served[key]} of {pairs[key]}"
            found.append(
                f"{' '.join(filter(None, key))}: {share} hits are served, less than {floor:.0%}."
            )
    return found
