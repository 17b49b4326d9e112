"""Batched embedding over a backend whose vectors tell which text they belong to."""

import numpy as np
import numpy.typing as npt
import pytest

from inference.engine.embedding import EmbeddingEngine
from inference.messages import Embedding, Failed, Finished, Frame, Started, Usage, Vectors
from tests.inference.engine.generations import by_id


class CountingBackend:
    """Embeds a text as its length and its sum."""

    dimensions = 2
    max_input_tokens = 8
    max_inputs = 4
    step_tokens = 12

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []

    def embed(self, inputs: list[list[int]]) -> npt.NDArray[np.float32]:
        self.batches.append(inputs)
        return np.array([[len(tokens), sum(tokens)] for tokens in inputs], dtype=np.float32)

    def close(self) -> None:
        self.batches.clear()


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend()


@pytest.fixture
def engine(backend: CountingBackend) -> EmbeddingEngine:
    return EmbeddingEngine(backend)


def job(id_: str, *lengths: int) -> Embedding:
    return Embedding(id_, "fake:1", [[number + 1] * n for number, n in enumerate(lengths)])


def rows(frames: list[Frame]) -> list[tuple[float, float]]:
    (vectors,) = (frame for frame in frames if isinstance(frame, Vectors))
    table = np.frombuffer(vectors.data, dtype="<f4").reshape(-1, vectors.dimensions)
    return [tuple(row) for row in table.tolist()]


def run(engine: EmbeddingEngine, *jobs: Embedding) -> dict[str, list[Frame]]:
    outputs = [output for item in jobs for output in engine.submit(item)]
    while not engine.is_idle:
        outputs += engine.step()
    return by_id(outputs)


def test_embedding_engine_keeps_the_order_of_texts_over_batches(engine, backend):
    frames = run(engine, job("a", 5, 1, 2, 3, 4, 6, 1))
    assert rows(frames["a"]) == [(5, 5), (1, 2), (2, 6), (3, 12), (4, 20), (6, 36), (1, 7)]
    assert [[len(tokens) for tokens in batch] for batch in backend.batches] == [
        [5, 1, 2, 3],
        [4, 6, 1],
    ]


def test_embedding_engine_batches_across_jobs(engine, backend):
    frames = run(engine, job("a", 3), job("b", 2, 2), job("c", 8))
    assert [len(batch) for batch in backend.batches] == [2, 2]
    assert {id_: rows(mine) for id_, mine in frames.items()} == {
        "a": [(3, 3)],
        "b": [(2, 2), (2, 4)],
        "c": [(8, 8)],
    }
    for id_, tokens in (("a", 3), ("b", 4), ("c", 8)):
        started, vectors, finished = frames[id_]
        assert started == Started(tokens)
        assert isinstance(vectors, Vectors)
        assert (vectors.dimensions, vectors.prompt_tokens) == (2, tokens)
        assert isinstance(finished, Finished)
        assert finished.reason == "stop"
        assert finished.usage == Usage(tokens, 0, computed_prompt_tokens=tokens)


def test_embedding_engine_takes_a_text_as_long_as_the_limit(engine, backend):
    backend.step_tokens = 4  # less than a text: it goes alone
    assert rows(run(engine, job("a", 8, 8))["a"]) == [(8, 8), (8, 16)]


@pytest.mark.parametrize(
    ("lengths", "code", "message"),
    [
        ((2, 9), "context_length_exceeded", "An input of 9 tokens cannot be embedded; the limit"),
        ((), "invalid_value", "An empty text"),
        ((3, 0), "invalid_value", "An empty text"),
    ],
)
def test_embedding_engine_fails_at_once_what_it_cannot_embed(
    engine, backend, lengths, code, message
):
    ((id_, frame),) = engine.submit(job("a", *lengths))
    assert id_ == "a"
    assert isinstance(frame, Failed)
    assert frame.code == code
    assert message in frame.message
    assert engine.is_idle
    assert backend.batches == []


@pytest.mark.parametrize("steps_before", [0, 1])
def test_embedding_engine_cancel_drops_the_texts_left(engine, backend, steps_before):
    outputs = [*engine.submit(job("victim", 3, 3, 3, 3, 3, 3)), *engine.submit(job("other", 2))]
    for _ in range(steps_before):
        outputs += engine.step()
    engine.cancel("victim")
    assert not engine.is_idle
    while not engine.is_idle:
        outputs += engine.step()
    frames = by_id(outputs)
    end = frames["victim"][-1]
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert end.usage.prompt_tokens == end.usage.computed_prompt_tokens == steps_before * 3 * 3
    assert not any(isinstance(frame, Vectors) for frame in frames["victim"])
    assert rows(frames["other"]) == [(2, 2)]
    # Its texts of the steps before, and the one of the other.
    assert sum(map(len, backend.batches)) == steps_before * 3 + 1


def test_embedding_engine_serves_a_short_job_beside_a_long_one(engine, backend):
    engine.submit(job("long", *[3] * 40))
    engine.step()
    engine.submit(job("short", 2, 2))
    outputs = [*engine.step(), *engine.step()]
    assert rows(by_id(outputs)["short"]) == [(2, 2), (2, 4)]


def test_embedding_engine_fills_the_batches_of_a_long_job_beside_short_ones(engine, backend):
    engine.submit(job("long", *[3] * 8))
    for number in range(4):
        engine.submit(job(f"short {number}", 3))
    while not engine.is_idle:
        engine.step()
    assert [len(batch) for batch in backend.batches] == [4, 4, 4]


def test_embedding_engine_cancel_of_what_has_ended_is_ignored(engine):
    run(engine, job("a", 1))
    engine.cancel("a")
    assert engine.is_idle
    assert engine.step() == []
    engine.check_integrity()


def test_embedding_engine_counts_its_jobs(engine):
    engine.submit(job("a", 1, 1))
    engine.submit(job("b", 1))
    assert (engine.running_sequences, engine.waiting_sequences, engine.used_cells) == (2, 0, 0)
    assert not engine.is_idle
