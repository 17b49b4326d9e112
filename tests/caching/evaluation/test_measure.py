"""The labelled pairs and what is measured on them."""

from collections import Counter

from caching.evaluation.measure import (
    FOW_CACHE,
    OURS,
    PAIRS,
    Pair,
    Row,
    failures,
    fow_cache_pairs,
    is_served_by_canonical_form,
    is_served_by_guard,
    measured,
    pairs_of,
)
from tests.caching.evaluation.pairs import pairs


def test_pairs_are_those_that_the_rules_make():
    made = "".join("\t".join(pair) + "\n" for pair in pairs())
    assert PAIRS.read_text() == made


def test_pairs_are_enough_and_of_all_kinds():
    labels, kinds = Counter[bool](), Counter[str]()
    for pair in pairs_of(PAIRS):
        labels[pair.trap] += 1
        kinds[pair.kind] += 1
    assert labels[True] >= 1_000
    assert labels[False] >= 900
    for kind in (
        *("number", "name", "unit", "date", "opposite", "negation", "roles", "question word"),
        *("scope", "filler", "case and marks", "typo", "contraction", "spelling", "frame"),
    ):
        assert kinds[kind] >= 20, kind
    assert PAIRS.stat().st_size < 400_000


def test_measured_pairs_reach_the_floors():
    rows = measured([*pairs_of(PAIRS), *fow_cache_pairs()])
    assert failures(rows) == []
    assert sum(row.pairs for row in rows if row.source == FOW_CACHE) == 840
    assert sum(row.served for row in rows if row.trap) == 0


def test_conversations_are_compared_only_after_equal_turns():
    chats = [pair for pair in fow_cache_pairs() if pair.kind.startswith("chat: ") and pair.trap]
    assert len(chats) == 120
    assert not any(pair.same_history for pair in chats)
    # Their last turns alone would be served, so it is the history that decides.
    alone = [Pair(pair.source, pair.kind, pair.trap, pair.a, pair.b) for pair in chats]
    assert sum(is_served_by_guard(pair) for pair in alone) > 20
    assert not any(is_served_by_guard(p) or is_served_by_canonical_form(p) for p in chats)


def test_failures_name_served_traps_and_missed_floors():
    rows = [
        Row(OURS, "typo", trap=False, pairs=100, served=84),
        Row(OURS, "unit", trap=True, pairs=100, served=1),
        Row(FOW_CACHE, "near_repeat", trap=False, pairs=100, served=70),
        Row(FOW_CACHE, "paraphrase", trap=False, pairs=100, served=0),
    ]
    assert failures(rows) == [
        "repository: 1 traps of the kind unit are served.",
        "repository: 84 of 100 hits are served, less than 85%.",
    ]
    rows[0].served, rows[1].served, rows[2].served = 85, 0, 69
    assert failures(rows) == [
        "fow-cache near_repeat: 69 of 100 hits are served, less than 70%.",
    ]
