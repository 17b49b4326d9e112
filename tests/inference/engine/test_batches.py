import pytest

from inference.engine.batches import Chunk, batches
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

TILE = 8


def answer(arrival: int, draft: tuple[int, ...] = ()) -> Chunk:
    """The next token of an answer after a prompt of four."""
    stepping = sequence(4, 1, computed_tokens=4, arrival=arrival, sequence_id=arrival)
    return Chunk(stepping, 1, list(draft))


def prompt(arrival: int, tokens: int) -> Chunk:
    """The whole of a prompt."""
    return Chunk(sequence(tokens, arrival=arrival, sequence_id=arrival), tokens)


@pytest.mark.parametrize(
    "chunks",
    [
        [answer(0), answer(1), prompt(2, TILE - 3)],
        [answer(arrival) for arrival in range(TILE)],
        [prompt(0, TILE), prompt(1, 2)],
    ],
    ids=["smaller than a tile", "answers alone", "prompts alone"],
)
def test_batches_are_one_without_prompts_beside_answers_in_tiles(chunks):
    assert batches(chunks, TILE) == [chunks]


@pytest.mark.parametrize("size", [TILE - 2, 3 * TILE])
def test_batches_have_prompts_first_and_answers_apart_from_a_tile_on(size):
    first, second, new = answer(0), answer(1), prompt(2, size)
    assert batches([first, second, new], TILE) == [[new], [first, second]]


def test_batches_count_the_guesses_behind_an_answer():
    drafted, new = answer(0, (1, 2, 3)), prompt(1, TILE - 4)
    assert batches([drafted, new], TILE) == [[new], [drafted]]


def test_batches_are_one_where_nothing_is_attended_in_tiles():
    chunks = [answer(0), prompt(1, 100)]
    assert batches(chunks, 0) == [chunks]


def test_chunk_wants_outputs_of_its_last_token_and_of_guesses():
    part = Chunk(sequence(6, computed_tokens=2, sequence_id=1), 3)
    assert (part.span.start, len(part.span.token_ids), part.span.outputs) == (2, 3, 0)
    assert prompt(0, 6).span.outputs == 1
    assert answer(0, (7, 8)).span.token_ids[-2:] == [7, 8]
    assert answer(0, (7, 8)).span.outputs == 3


def test_engine_computes_a_prompt_apart_from_answers_in_the_same_step():
    engine, backend = fake_engine()
    backend.tile_tokens = TILE
    engine.submit(generation("old", "old", max_tokens=20))
    engine.step()
    engine.submit(generation("new", "n" * TILE, max_tokens=4))
    begin = len(backend.decoded_batches)
    frames = by_id(engine.step())
    assert [len(batch[0].token_ids) for batch in backend.decoded_batches[begin:]] == [TILE, 1]
    assert len(text_of(frames["old"])) == len(text_of(frames["new"])) == 1


def test_engine_aborted_in_a_prompt_goes_on_with_the_answers_in_the_next_step():
    engine, backend = fake_engine()
    backend.tile_tokens = TILE
    engine.submit(generation("old", "old", max_tokens=6))
    outputs = engine.step()
    engine.submit(generation("new", "n" * TILE, max_tokens=4))
    backend.while_decoding = backend.abort
    assert [id_ for id_, frame in engine.step() if text_of([frame])] == []
    backend.while_decoding = None
    outputs += step_until(engine, lambda: engine.is_idle)
    frames = by_id(outputs)
    assert text_of(frames["old"]) == alone(generation("old", "old", max_tokens=6))
    assert text_of(frames["new"]) == alone(generation("new", "n" * TILE, max_tokens=4))
    assert drain(engine) == []
