"""Prompt lookup: the longest, newest earlier occurrence, and what followed it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.drafting import ngram_drafter
from inference.engine.drafting.drafter import Draft, DraftRequest
from inference.engine.drafting.ngram_drafter import (
    MAX_MATCH_TOKENS,
    MIN_MATCH_TOKENS,
    NgramDrafter,
    NgramIndex,
)


def draft(text: str, tokens: int = 4) -> str:
    """The draft of a new drafter after a text whose tokens are its characters."""
    return spelled(NgramDrafter().propose([request(text, tokens)])[0])


def request(text: str, tokens: int, key: str = "s") -> DraftRequest:
    return DraftRequest(key, list(map(ord, text)), tokens)


def spelled(draft_: Draft) -> str:
    return "".join(map(chr, draft_.token_ids))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("the cat sat, the c", "at s"),
        ("no two letters agin", ""),
        ("", ""),
        ("a", ""),
        ("aa", ""),
        # The longer match goes before the newer one.
        ("see red. be blue. we see ", "red."),
        # Of two as long, the newer.
        ("one two. one six. one ", "six."),
        # A text that repeats itself goes on repeating itself.
        ("hahaha", "haha"),
        ("xyzxyz", "xyzx"),
    ],
)
def test_ngram_draft_is_what_followed_before(text: str, wanted: str):
    assert draft(text) == wanted


def test_ngram_draft_is_as_long_as_asked_for():
    assert draft("abcdefgh abc", 2) == "de"
    assert draft("abcdefgh abc", 0) == ""


def test_ngram_grade_is_the_length_of_the_match_and_grows_with_the_draft():
    (short,) = NgramDrafter().propose([request("abXab", 3)])
    assert short.grades == [0, 1, 2]
    (longest,) = NgramDrafter().propose([request("abcdefghijklmnopqrstuv" * 2, 3)])
    assert longest.grades == [NgramDrafter.top_grade] * 3


def test_ngram_drafter_keeps_sequences_apart_and_forgets_them():
    drafter = NgramDrafter()
    ab, xy = request("ab12ab", 2, "first"), request("ab34ab", 2, "second")
    assert [spelled(each) for each in drafter.propose([ab, xy])] == ["12", "34"]
    drafter.forget("first")
    drafter.forget("never seen")
    assert spelled(drafter.propose([request("zzab", 2, "first")])[0]) == ""
    assert [spelled(each) for each in drafter.propose([xy])] == ["34"]


@given(st.lists(st.integers(0, 2), max_size=60), st.data())
def test_ngram_index_grown_in_pieces_finds_what_a_scan_finds(text: list[int], data: st.DataObject):
    index = NgramIndex(0)
    end = 0
    while end < len(text):
        end = data.draw(st.integers(end + 1, len(text)))
        position, length = index.longest_match(text[:end])
        best = max((match_length(text[:end], other) for other in range(end)), default=0)
        assert length <= (best if best >= MIN_MATCH_TOKENS else 0)
        assert (length > 0) == (best >= MIN_MATCH_TOKENS)
        if length:
            assert min(match_length(text[:end], position), MAX_MATCH_TOKENS) == length


def match_length(text: list[int], position: int) -> int:
    """How many tokens before ``position`` are those at the end."""
    length = 0
    while length < position and text[position - length - 1] == text[len(text) - length - 1]:
        length += 1
    return length


def test_ngram_index_searches_only_the_end_of_a_long_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ngram_drafter, "MAX_INDEXED_TOKENS", 10)
    assert draft("abc" + "." * 7 + "ab", 1) == ""
    assert draft("." * 7 + "abc" + "ab", 1) == "c"


def test_ngram_index_looks_at_few_candidates(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ngram_drafter, "MAX_CANDIDATES", 2)
    assert draft("xabc" + "1ab2" + "3ab4" + "xab", 1) == "4"
    monkeypatch.setattr(ngram_drafter, "MAX_CANDIDATES", 3)
    assert draft("xabc" + "1ab2" + "3ab4" + "xab", 1) == "c"
