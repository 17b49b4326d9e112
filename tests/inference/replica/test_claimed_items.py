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
from inference.replica.claimed_items import ClaimedItems

ENDED = Finished("stop", Usage(1, 2), Timings(prefill_seconds=1.0))
FAILED = Failed("internal_error", "It broke.")


def generation(item_id: str = "a", *, emitted_frames: int = 0, crashes: int = 0) -> Generation:
    """A claimed generation."""
    return Generation(item_id, "m@v", [1], 50, emitted_frames=emitted_frames, crashes=crashes)


def claimed(*items: Generation | Embedding) -> ClaimedItems:
    """Items that each waited 1.5 s in the queue."""
    claimed_items = ClaimedItems()
    for item in items:
        claimed_items.begin(item, 1.5, 0.0)
    return claimed_items


def delta(*token_ids: int, text: str = "") -> Delta:
    """New tokens."""
    return Delta(text, list(token_ids))


def test_frames_are_numbered_from_one_over_several_rounds() -> None:
    items = claimed(generation())
    first = items.number([("a", Started(1)), ("a", delta(1))])
    second = items.number([("a", delta(2))])
    assert [(entry.number, entry.frame) for entry in first + second] == [
        (1, Started(1)),
        (2, delta(1)),
        (3, delta(2)),
    ]


def test_a_continued_item_goes_on_with_its_numbers() -> None:
    items = claimed(generation(emitted_frames=7))
    assert items.number([("a", delta(1))]) == [Numbered("a", 8, delta(1))]


def test_deltas_of_a_round_become_one_per_generation() -> None:
    items = claimed(generation("a"), generation("b"))
    logprobs = [TokenLogprob(name, b"", -1.0) for name in "xy"]
    outputs: list[tuple[str, Frame]] = [
        ("a", Started(1)),
        ("a", Delta("x", [1], logprobs[:1])),
        ("b", delta(8, text="B")),
        ("a", Delta("", [2], logprobs[1:])),
        ("a", delta(3, text="z")),
    ]
    assert items.number(outputs) == [
        Numbered("a", 1, Started(1)),
        Numbered("a", 2, Delta("xz", [1, 2, 3], logprobs)),
        Numbered("b", 1, delta(8, text="B")),
    ]


@pytest.mark.parametrize("between", [Started(1), Vectors(1, b"1234", 1)])
def test_only_successive_deltas_are_merged(between: Frame) -> None:
    items = claimed(generation())
    numbered = items.number([("a", delta(1)), ("a", between), ("a", delta(2))])
    assert [entry.frame for entry in numbered] == [delta(1), between, delta(2)]


def test_a_generation_is_proven_once_by_enough_new_tokens() -> None:
    items = claimed(generation(emitted_frames=40, crashes=1))
    few = items.number([("a", delta(*range(PROVEN_TOKENS - 1)))])
    assert items.running == [Claim(1, proven=False)]
    assert items.proof == {"a": False}
    enough = items.number([("a", delta(1))])
    more = items.number([("a", delta(2))])
    assert [entry.mark for entry in few + enough + more] == [NOTHING, PROVEN, NOTHING]
    assert items.running == [Claim(1, proven=True)]
    assert items.proof == {"a": True}


@pytest.mark.parametrize(("last", "mark"), [(ENDED, SERVED), (FAILED, LAST)])
def test_a_last_frame_ends_the_claim(last: Frame, mark: int) -> None:
    items = claimed(generation("a"), generation("b"))
    numbered = items.number([("a", delta(1)), ("a", last)])
    assert [entry.mark for entry in numbered] == [NOTHING, mark]
    assert items.served == (mark == SERVED)
    assert list(items.proof) == ["b"]
    assert len(items) == 1


def test_frames_after_the_end_are_dropped() -> None:
    items = claimed(generation())
    items.number([("a", ENDED)])
    assert items.number([("a", delta(1)), ("unknown", delta(1))]) == []


def test_the_end_tells_how_long_the_item_waited() -> None:
    (entry,) = claimed(generation()).number([("a", ENDED)])
    assert entry.frame == Finished("stop", Usage(1, 2), Timings(1.5, 1.0, 0.0))
    (entry,) = claimed(generation()).number([("a", FAILED)])
    assert entry.frame == Failed("internal_error", "It broke.", timings=Timings(1.5))


def test_an_embedding_is_never_proven() -> None:
    items = claimed(Embedding("e", "m@v", [[1]]))
    items.number([("e", Vectors(1, b"1234", 1))])
    assert items.running == [Claim(0, proven=False)]


def test_overdue_lists_items_over_the_limit() -> None:
    items = ClaimedItems()
    items.begin(Generation("old", "m@v", [1], 5), 0.0, now=10.0)
    items.begin(Generation("new", "m@v", [1], 5), 0.0, now=60.0)
    assert items.overdue(now=70.0, limit_seconds=50.0) == ["old"]


def test_token_rate_is_that_since_the_last_reading() -> None:
    items = claimed(generation())
    assert items.tokens_per_second(10.0) == 0.0
    items.number([("a", delta(*range(50)))])
    assert items.tokens_per_second(12.0) == 25.0
    assert items.tokens_per_second(13.0) == 0.0


def test_two_readings_at_one_moment_give_no_rate() -> None:
    items = claimed(generation())
    items.tokens_per_second(10.0)
    items.number([("a", delta(1))])
    assert items.tokens_per_second(10.0) == 0.0
