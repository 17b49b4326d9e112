"""Frame numbers, merging and proof on a host."""

import pytest

from inference.messages import (
    Delta,
    Embedding,
    Failed,
    Finished,
    Frame,
    Generation,
    Started,
    Timings,
    TokenLogprob,
    Usage,
    Vectors,
)
from inference.queue.blame import PROVEN_TOKENS, Claim
from inference.queue.claims import LAST, NOTHING, PROVEN, SERVED, Numbered
from inference.replica.flights import Flights

ENDED = Finished("stop", Usage(1, 2), Timings(prefill_seconds=1.0))
FAILED = Failed("internal_error", "It broke.")


def generation(item_id: str = "a", *, emitted_frames: int = 0, crashes: int = 0) -> Generation:
    """A claimed generation."""
    return Generation(item_id, "m@v", [1], 50, emitted_frames=emitted_frames, crashes=crashes)


def flights_of(*items: Generation | Embedding) -> Flights:
    """Flights that have begun, each after 1.5 s in the queue."""
    flights = Flights()
    for item in items:
        flights.begin(item, 1.5)
    return flights


def delta(*token_ids: int, text: str = "") -> Delta:
    """New tokens."""
    return Delta(text, list(token_ids))


def test_frames_are_numbered_from_one_over_several_rounds() -> None:
    flights = flights_of(generation())
    first = flights.number([("a", Started(1)), ("a", delta(1))])
    second = flights.number([("a", delta(2))])
    assert [(entry.number, entry.frame) for entry in first + second] == [
        (1, Started(1)),
        (2, delta(1)),
        (3, delta(2)),
    ]


def test_a_continued_item_goes_on_with_its_numbers() -> None:
    flights = flights_of(generation(emitted_frames=7))
    assert flights.number([("a", delta(1))]) == [Numbered("a", 8, delta(1))]


def test_deltas_of_a_round_become_one_per_generation() -> None:
    flights = flights_of(generation("a"), generation("b"))
    logprobs = [TokenLogprob(name, b"", -1.0) for name in "xy"]
    outputs: list[tuple[str, Frame]] = [
        ("a", Started(1)),
        ("a", Delta("x", [1], logprobs[:1])),
        ("b", delta(8, text="B")),
        ("a", Delta("", [2], logprobs[1:])),
        ("a", delta(3, text="z")),
    ]
    assert flights.number(outputs) == [
        Numbered("a", 1, Started(1)),
        Numbered("a", 2, Delta("xz", [1, 2, 3], logprobs)),
        Numbered("b", 1, delta(8, text="B")),
    ]


@pytest.mark.parametrize("between", [Started(1), Vectors(1, b"1234", 1)])
def test_only_successive_deltas_are_merged(between: Frame) -> None:
    flights = flights_of(generation())
    numbered = flights.number([("a", delta(1)), ("a", between), ("a", delta(2))])
    assert [entry.frame for entry in numbered] == [delta(1), between, delta(2)]


def test_a_generation_is_proven_once_by_enough_new_tokens() -> None:
    flights = flights_of(generation(emitted_frames=40, crashes=1))
    few = flights.number([("a", delta(*range(PROVEN_TOKENS - 1)))])
    assert flights.running == [Claim(1, proven=False)]
    assert flights.proof == {"a": False}
    enough = flights.number([("a", delta(1))])
    more = flights.number([("a", delta(2))])
    assert [entry.mark for entry in few + enough + more] == [NOTHING, PROVEN, NOTHING]
    assert flights.running == [Claim(1, proven=True)]
    assert flights.proof == {"a": True}


@pytest.mark.parametrize(("last", "mark"), [(ENDED, SERVED), (FAILED, LAST)])
def test_a_last_frame_ends_the_flight(last: Frame, mark: int) -> None:
    flights = flights_of(generation("a"), generation("b"))
    numbered = flights.number([("a", delta(1)), ("a", last)])
    assert [entry.mark for entry in numbered] == [NOTHING, mark]
    assert flights.served == (mark == SERVED)
    assert list(flights.proof) == ["b"]
    assert len(flights) == 1


def test_what_comes_after_the_end_is_passed_over() -> None:
    flights = flights_of(generation())
    flights.number([("a", ENDED)])
    assert flights.number([("a", delta(1)), ("unknown", delta(1))]) == []


def test_the_end_tells_how_long_the_item_waited() -> None:
    (entry,) = flights_of(generation()).number([("a", ENDED)])
    assert entry.frame == Finished("stop", Usage(1, 2), Timings(1.5, 1.0, 0.0))


def test_an_embedding_is_never_proven() -> None:
    flights = flights_of(Embedding("e", "m@v", [[1]]))
    flights.number([("e", Vectors(1, b"1234", 1))])
    assert flights.running == [Claim(0, proven=False)]


def test_overdue_names_what_runs_longer_than_the_limit() -> None:
    flights = Flights()
    flights.begin(Generation("old", "m@v", [1], 5), 0.0, now=10.0)
    flights.begin(Generation("new", "m@v", [1], 5), 0.0, now=60.0)
    assert flights.overdue(now=70.0, limit_seconds=50.0) == ["old"]
