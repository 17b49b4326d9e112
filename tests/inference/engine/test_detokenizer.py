"""Bytes of tokens to text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.detokenizer import Detokenizer


@pytest.mark.parametrize(
    ("pieces", "texts"),
    [
        ([b"plain"], ["plain", ""]),
        ([b"\xf0\x9f", b"\x99", b"\x82!"], ["", "", "🙂!", ""]),
        ([b"a\xc3", b"\xa9b"], ["a", "éb", ""]),
        ([b"\xe2\x82"], ["", "\ufffd"]),
        ([b"\xff", b"a"], ["\ufffd", "a", ""]),
        ([b"\xc3", b"("], ["", "\ufffd(", ""]),
        ([b"", b"x"], ["", "x", ""]),
    ],
)
def test_detokenizer_gives_whole_characters(pieces, texts):
    detokenizer = Detokenizer()
    assert [*map(detokenizer.feed, pieces), detokenizer.flush()] == texts


@given(data=st.binary(max_size=30), text=st.text(max_size=20), cuts=st.lists(st.integers(0, 60)))
def test_detokenizer_gives_the_same_text_however_bytes_are_cut(data, text, cuts):
    for whole in (data, text.encode()):
        places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        detokenizer = Detokenizer()
        pieces = [whole[a:b] for a, b in pairwise(places)]
        fed = "".join(map(detokenizer.feed, pieces)) + detokenizer.flush()
        assert fed == whole.decode("utf-8", "replace")
