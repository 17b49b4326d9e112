"""Stop strings in a text that arrives in pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.stop_matcher import StopMatcher

FEW_LETTERS = st.text(alphabet="abé", max_size=24)
STOPS = st.lists(st.text(alphabet="abé", min_size=1, max_size=4), min_size=1, max_size=3)


def run(matcher: StopMatcher, pieces: list[str]) -> list[str]:
    shown = [matcher.feed(piece) for piece in pieces]
    return [*shown, matcher.flush()]


@pytest.mark.parametrize(
    ("stops", "pieces", "shown"),
    [
        ((), ["ab", "c"], ["ab", "c", ""]),
        (("",), ["ab"], ["ab", ""]),
        (("END",), ["so E", "N", "D more"], ["so ", "", "", ""]),
        (("END",), ["so EN", "d"], ["so ", "ENd", ""]),
        (("END",), ["so EN"], ["so ", "EN"]),
        (("END",), ["END"], ["", ""]),
        (("aab",), ["aa", "ab"], ["", "a", ""]),
        (("abc", "bd"), ["ab", "d"], ["", "a", ""]),
        (("abcd", "bc"), ["xabcd"], ["x", ""]),
        (("b", "ab"), ["ab"], ["", ""]),
        (("\n\n",), ["line\n", "\nnext"], ["line", "", ""]),
    ],
)
def test_stop_matcher_shows_what_precedes_a_stop(stops, pieces, shown):
    assert run(StopMatcher(stops), pieces) == shown


def test_stop_matcher_shows_nothing_after_a_match():
    matcher = StopMatcher(("x",))
    assert matcher.feed("axb") == "a"
    assert matcher.matched
    assert [matcher.feed("more"), matcher.flush()] == ["", ""]


@given(text=FEW_LETTERS, stops=STOPS, cuts=st.lists(st.integers(0, 24)))
def test_stop_matcher_ends_at_a_first_stop_however_the_text_is_cut(text, stops, cuts):
    """A single stop string ends the text at its first occurrence.

    With several that overlap, an early piece may complete the one that begins later, so the end
    lies between the first that begins and the first that is complete.
    """
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    matcher = StopMatcher(tuple(stops))
    shown = "".join(run(matcher, [text[a:b] for a, b in pairwise(places)]))

    found = [(text.find(stop), len(stop)) for stop in stops if stop in text]
    assert matcher.matched == bool(found)
    if not found:
        assert shown == text
        return
    earliest = min(start for start, _ in found)
    first_complete = min((start + length, start) for start, length in found)[1]
    assert shown == text[: len(shown)]
    assert earliest <= len(shown) <= first_complete
    assert any(text.startswith(stop, len(shown)) for stop in stops)
    if len(set(stops)) == 1:
        assert shown == text.split(stops[0])[0]


@given(text=FEW_LETTERS, stops=STOPS)
def test_stop_matcher_holds_back_only_what_may_begin_a_stop(text, stops):
    matcher = StopMatcher(tuple(stops))
    shown = ""
    for index, letter in enumerate(text):
        shown += matcher.feed(letter)
        if matcher.matched:
            return
        held = text[len(shown) : index + 1]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)
