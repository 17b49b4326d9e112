import pytest

from inference.engine.batches import MIN_TILE_ROWS, Chunk, batches
from tests.inference.engine.generations import (
    alone,
    by_id,
    drain,
    fake_engine,
    generation,
    sequence,
    step_until,
    text_of,
)

# Those of a prompt of 24 tokens in an empty cache.
PAIRS = 300


def answer(arrival: int, draft: tuple[int, ...] = ()) -> Chunk:
    """The next token of an answer after a prompt of four."""
    stepping = sequence(4, 1, computed_tokens=4, arrival=arrival, sequence_id=arrival)
    return Chunk(stepping, 1, list(draft))


def prompt(arrival: int, tokens: int, behind: int = 0) -> Chunk:
    """The last ``tokens`` of a prompt."""
    whole = sequence(behind + tokens, computed_tokens=behind, arrival=arrival, sequence_id=arrival)
    return Chunk(whole, tokens)


@pytest.mark.parametrize(
    "chunks",
    [
        [answer(0), answer(1), prompt(2, 23)],
        [answer(0), prompt(1, 16, behind=10)],
        [answer(0), prompt(1, MIN_TILE_ROWS - 1, behind=1000)],
        [answer(0), prompt(1, 20), prompt(2, 20)],
        [answer(arrival) for arrival in range(100)],
        [prompt(0, 50), prompt(1, 2)],
    ],
    ids=[
        "a short prompt",
        "not far behind",
        "fewer rows than a tile wants",
        "several short ones",
        "answers alone",
        "prompts alone",
    ],
)
def test_batches_are_one_unless_prompts_beside_answers_have_much_to_attend_to(chunks):
    assert batches(chunks, PAIRS) == [chunks]


@pytest.mark.parametrize(
    "prompts",
    [[prompt(2, 24)], [prompt(2, 16, behind=11)], [prompt(2, 6), prompt(3, 24)]],
    ids=["long", "behind much", "one of several"],
)
def test_batches_have_prompts_first_and_answers_apart_where_tiles_pay(prompts):
    answers = [answer(0), answer(1, (1, 2))]
    assert batches([*answers, *prompts], PAIRS) == [prompts, answers]


def test_batches_are_one_where_nothing_is_attended_in_tiles():
    chunks = [answer(0), prompt(1, 500)]
    assert batches(chunks, 0) == [chunks]


def test_chunk_wants_outputs_of_its_last_token_and_of_guesses():
    part = Chunk(sequence(6, computed_tokens=2, sequence_id=1), 3)
    assert (part.span.start, len(part.span.token_ids), part.span.outputs) == (2, 3, 0)
    assert prompt(0, 6).span.outputs == 1
    assert answer(0, (7, 8)).span.token_ids[-2:] == [7, 8]
    assert answer(0, (7, 8)).span.outputs == 3


def test_engine_computes_a_prompt_apart_from_answers_in_the_same_step():
    engine, backend = fake_engine()
    backend.tiled_pairs = PAIRS
    engine.submit(generation("old", "old", max_tokens=20))
    engine.step()
    engine.submit(generation("new", "n" * 24, max_tokens=4))
    begin = len(backend.decoded_batches)
    frames = by_id(engine.step())
    assert [len(batch[0].token_ids) for batch in backend.decoded_batches[begin:]] == [24, 1]
    assert len(text_of(frames["old"])) == len(text_of(frames["new"])) == 1


def test_engine_aborted_in_a_prompt_goes_on_with_the_answers_in_the_next_step():
    engine, backend = fake_engine()
    backend.tiled_pairs = PAIRS
    engine.submit(generation("old", "old", max_tokens=6))
    outputs = engine.step()
    engine.submit(generation("new", "n" * 24, max_tokens=4))
    backend.while_decoding = backend.abort
    assert [id_ for id_, frame in engine.step() if text_of([frame])] == []
    backend.while_decoding = None
    outputs += step_until(engine, lambda: engine.is_idle)
    frames = by_id(outputs)
    assert text_of(frames["old"]) == alone(generation("old", "old", max_tokens=6))
    assert text_of(frames["new"]) == alone(generation("new", "n" * 24, max_tokens=4))
    assert drain(engine) == []
