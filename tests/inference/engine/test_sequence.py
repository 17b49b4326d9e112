"""One generation's text state: what is held back, when its log-probabilities follow."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.sequence import NO_SLOT, Sequence
from inference.messages import Delta, SamplingParameters, TokenLogprob
from tests.inference.engine.generations import generation, sequence


def logprob(token: str) -> TokenLogprob:
    return TokenLogprob(token, token.encode(), -0.5)


def emit(target: Sequence, *pieces: bytes) -> list[Delta]:
    frames = []
    for number, piece in enumerate(pieces):
        target.token_ids.append(number)
        frames.append(target.emit(number, piece, logprob(piece.decode("latin-1"))))
    return frames


def summary(frame: Delta | None) -> tuple[str, list[str]]:
    assert frame is not None
    return frame.text, [entry.token for entry in frame.logprobs]


def test_sequence_holds_logprobs_until_their_text_is_shown():
    subject = Sequence(generation(stop=("END",)), 0, now=0.0)
    frames = emit(subject, b"a", b"E", b"N", b"x", b"b")
    assert [summary(frame) for frame in frames] == [
        ("a", ["a"]),
        ("", []),
        ("", []),
        ("ENx", ["E", "N", "x"]),
        ("b", ["b"]),
    ]
    assert [frame.token_ids for frame in frames] == [[0], [1], [2], [3], [4]]


def test_sequence_never_gives_logprobs_of_a_stop_string():
    subject = Sequence(generation(stop=("END",)), 0, now=0.0)
    frames = emit(subject, b"a", b"E", b"ND")
    assert [summary(frame) for frame in frames] == [("a", ["a"]), ("", []), ("", [])]
    assert subject.stop_matched
    assert subject.flush() is None


def test_sequence_flush_gives_held_text_and_its_logprobs_once():
    subject = Sequence(generation(stop=("END",)), 0, now=0.0)
    emit(subject, b"a", b"EN")
    assert summary(subject.flush()) == ("EN", ["EN"])
    assert subject.flush() is None


def test_sequence_flush_ends_an_unfinished_character():
    subject = Sequence(generation(), 0, now=0.0)
    assert [frame.text for frame in emit(subject, b"a\xf0\x9f")] == ["a"]
    flushed = subject.flush()
    assert flushed is not None
    assert flushed.text == "\ufffd"


@pytest.mark.parametrize("replayed", range(6))
def test_sequence_replay_leaves_the_state_that_release_left(replayed):
    """A continued generation shows, from where it was cut, what the first would have shown."""
    pieces = [b"x\xf0\x9f", b"\x99\x82E", b"N", b"DE", b"N", b"?"]
    first = Sequence(generation(stop=("END!",)), 0, now=0.0)
    whole = [frame.text for frame in emit(first, *pieces)]

    second = Sequence(generation(stop=("END!",)), 0, now=0.0)
    for piece in pieces[:replayed]:
        second.replay(piece)
    rest = emit(second, *pieces[replayed:])
    assert [frame.text for frame in rest] == whole[replayed:]
    tokens = [entry.token_bytes for frame in rest for entry in frame.logprobs]
    assert tokens == [piece.decode("latin-1").encode() for piece in pieces[replayed:]]
    assert second.flush() == first.flush()


@pytest.mark.parametrize(
    ("prompt", "output", "computed", "pending", "stepping"),
    [
        (4, 0, 0, 4, False),
        (4, 0, 3, 1, False),
        (4, 1, 4, 1, True),
        (4, 3, 0, 7, False),
        (4, 3, 4, 3, False),
        (4, 3, 6, 1, True),
        (1, 0, 0, 1, False),
    ],
)
def test_sequence_steps_when_only_its_newest_token_is_pending(
    prompt, output, computed, pending, stepping
):
    subject = sequence(prompt, output, computed_tokens=computed, sequence_id=0)
    assert (subject.pending_tokens, subject.is_stepping) == (pending, stepping)
    assert subject.prefill_end == prompt + output
    assert subject.usage.completion_tokens == output


@pytest.mark.parametrize("temperature", [0.0, 0.5])
@pytest.mark.parametrize(("computed", "replays"), [(0, False), (3, False), (4, True), (6, True)])
def test_sequence_continued_greedily_steps_through_what_it_had_said(temperature, computed, replays):
    subject = sequence(
        4,
        computed_tokens=computed,
        sequence_id=0,
        sampling=SamplingParameters(temperature=temperature),
        emitted_token_ids=[1, 2, 3],
    )
    greedy = temperature == 0
    assert subject.prefill_end == (4 if greedy else 7)
    assert subject.is_stepping == ((replays and greedy) or computed == 6)


def test_sequence_that_waits_does_not_step():
    assert not sequence(4, 1, computed_tokens=4, sequence_id=NO_SLOT).is_stepping


def test_sequence_rank_puts_priority_before_age():
    old_low, new_high, old_high = (
        sequence(arrival=arrival, priority=priority)
        for arrival, priority in ((0, 1), (5, 3), (2, 3))
    )
    ranked = sorted([old_low, new_high, old_high], key=lambda item: item.rank)
    assert ranked == [old_high, new_high, old_low]


def text_of(pieces: list[bytes]) -> list[str]:
    """The text of each piece and, last, the text that the end adds."""
    subject = Sequence(generation(), 0, now=0.0)
    texts = [subject.emit(1, piece, None).text for piece in pieces]
    flushed = subject.flush()
    return [*texts, flushed.text if flushed is not None else ""]


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
def test_sequence_emits_whole_characters(pieces: list[bytes], texts: list[str]):
    assert text_of(pieces) == texts


@given(data=st.binary(max_size=30), text=st.text(max_size=20), cuts=st.lists(st.integers(0, 60)))
def test_sequence_emits_the_same_text_however_bytes_are_cut(
    data: bytes, text: str, cuts: list[int]
):
    for whole in (data, text.encode()):
        places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        pieces = [whole[a:b] for a, b in pairwise(places)]
        assert "".join(text_of(pieces)) == whole.decode("utf-8", "replace")
